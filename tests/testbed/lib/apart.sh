# Engines on machines of their own: namespaces for processes, mounts and networks, which one process holds and which end with
# it. So none touches a network of this machine, and one that is killed leaves nothing but data. The files of an engine are
# in $RUN/NAME, its data in $CACHE/NAME-engine.
# shellcheck shell=bash

apart_docker() { DOCKER_HOST=unix://$RUN/$1/docker.sock docker "${@:2}"; }

apart_answers() { [ -S "$RUN/$1/docker.sock" ] && apart_docker "$1" version >/dev/null 2>&1; }

apart_possible() {
    [ "$(id -u)" = 0 ] && is_debian || die "an engine of its own needs root rights on a Debian machine"
    export PATH=$PATH:/usr/sbin:/sbin
    need ip iproute2
    need crun crun
}

# The process that holds the machine NAME; none where it has ended.
apart_holder() {
    local pid
    pid=$(cat "$RUN/$1/holder" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = rollout-holder ] && echo "$pid"
}

apart_network() { echo "/proc/$(apart_holder "$1")/ns/net"; }

# apart_machine NAME: with no engine yet.
apart_machine() {
    local child holder=''
    mkdir -p "$RUN/$1"
    # shellcheck disable=SC2016 # for the shell that it is given to
    setsid unshare --pid --fork --kill-child --mount-proc --net --uts bash -c \
        'hostname "$1"; ip link set lo up; echo rollout-holder >/proc/self/comm; sleep infinity & wait' bash "$1" \
        >/dev/null 2>&1 </dev/null 9>&- &
    child=$!
    for _ in $(seq 100); do
        read -r holder 2>/dev/null <"/proc/$child/task/$child/children" || true
        echo "$holder" >"$RUN/$1/holder"
        [ -z "$(apart_holder "$1")" ] || return 0
        sleep 0.1
    done
    die "no namespaces for the engine $1"
}

# apart_start NAME [OPTION…]: on its machine, with further options of dockerd.
apart_start() {
    local name=$1 own=$RUN/$1 is_new='' child
    shift
    if [ -z "$(apart_holder "$name")" ]; then
        # What a machine that was killed has left.
        rm -rf "$own" "$CACHE/$name-engine/swarm"
        apart_machine "$name"
        is_new=1
    fi
    mkdir -p "$CACHE/$name-engine"
    setsid nsenter --target "$(apart_holder "$name")" --pid --mount --net --uts sh -c "$WITHOUT_HYBRID_CGROUPS" \
        dockerd -H "unix://$own/docker.sock" --data-root "$CACHE/$name-engine" --exec-root "$own/exec" \
        --pidfile "$own/dockerd.pid" "${WITH_CRUN[@]}" "$@" >>"$own/dockerd.log" 2>&1 </dev/null 9>&- &
    child=$!
    for _ in $(seq 300); do
        if apart_answers "$name"; then
            [ -z "$is_new" ] || apart_remove_everything_left "$name"
            return
        fi
        kill -0 $child 2>/dev/null || break
        sleep 0.1
    done
    tail -20 "$own/dockerd.log" >&2
    die "the engine $name did not come up; see $own/dockerd.log"
}

apart_remove_everything_left() { (DOCKER_HOST=unix://$RUN/$1/docker.sock; export DOCKER_HOST; remove_everything_left); }

# The machine stays.
apart_stop() {
    # shellcheck disable=SC2016 # for the shell that it is given to
    nsenter --target "$(apart_holder "$1")" --pid --mount sh -c \
        'kill "$1"; for _ in $(seq 400); do [ -d "/proc/$1" ] || exit 0; sleep 0.1; done; exit 1' sh "$(cat "$RUN/$1/dockerd.pid")" \
        || die "the engine $1 has not ended within 40 s; see $RUN/$1/dockerd.log"
}

# apart_images NAME IMAGE…: these and the one under test from the first engine, where one is missing or another one by now.
apart_images() {
    local name id stale=()
    for name in "${@:2}" "${ROLLOUT_TESTBED_IMAGE:-rollout:latest}"; do
        id=$(docker image inspect -f '{{.Id}}' "$name" 2>/dev/null) || die "no image $name to take to the engine $1"
        [ "$(apart_docker "$1" image inspect -f '{{.Id}}' "$name" 2>/dev/null)" = "$id" ] || stale+=("$name")
    done
    [ ${#stale[@]} -eq 0 ] || docker save "${stale[@]}" | apart_docker "$1" load -q >/dev/null \
        || die "images could not be taken to the engine $1"
}

# Removes the machine and all that is on it but the engine's images.
apart_down() {
    local holder
    [ -d "$RUN/$1" ] || return 0
    if apart_answers "$1"; then
        apart_remove_everything_left "$1"
        apart_stop "$1"
    fi
    holder=$(apart_holder "$1") || true
    if [ -n "$holder" ]; then
        kill -KILL "$holder"
        for _ in $(seq 100); do
            [ -d "/proc/$holder" ] || break
            sleep 0.1
        done
    fi
    rm -rf "${RUN:?}/$1"
}
