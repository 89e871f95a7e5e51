# An engine in a network namespace of its own, to be restarted in the middle of a test: no network of the machine's is
# touched by it, and no other test uses it.
# shellcheck shell=bash

OWN=$RUN/own
OWN_PID_FILE=$OWN/dockerd.pid
OWN_NETNS=rollout-own
OWN_IMAGES='traefik:v3.7 rollout-demo:v1 rollout-demo:v2'

own_docker() { DOCKER_HOST=unix://$OWN/docker.sock docker "$@"; }

own_runs() { [ "$(cat "/proc/$(cat "$OWN_PID_FILE" 2>/dev/null || echo none)/comm" 2>/dev/null)" = dockerd ]; }

# own_up [live]: starts it, or starts it anew; with `live`, containers outlive it.
own_up() {
    [ "$(id -u)" = 0 ] && is_debian || die "an engine of its own needs root rights on a Debian machine"
    export PATH=$PATH:/usr/sbin:/sbin
    mkdir -p "$OWN" "$CACHE/own-engine"
    need ip iproute2
    if [ ! -e /run/netns/$OWN_NETNS ]; then
        ip netns add $OWN_NETNS && ip -n $OWN_NETNS link set lo up || die "no network namespace $OWN_NETNS"
    fi
    ! own_runs || own_stop
    own_start "$@"
}

own_start() {
    local options=()
    [ "${1:-}" != live ] || options+=(--live-restore)
    remove_stale_pid "$OWN_PID_FILE" dockerd
    remove_stale_pid "$OWN/exec/containerd/containerd.pid" containerd
    # By nsenter: `ip netns exec` would give it mounts of its own, which the next one does not know.
    setsid nsenter --net=/run/netns/$OWN_NETNS dockerd -H "unix://$OWN/docker.sock" --data-root "$CACHE/own-engine" \
        --exec-root "$OWN/exec" --pidfile "$OWN_PID_FILE" "${options[@]}" >>"$OWN/dockerd.log" 2>&1 </dev/null 9>&- &
    local child=$!
    for _ in $(seq 300); do
        own_docker version >/dev/null 2>&1 && return
        kill -0 $child 2>/dev/null || break
        sleep 0.1
    done
    tail -20 "$OWN/dockerd.log" >&2
    die "the engine of its own did not come up; see $OWN/dockerd.log"
}

own_stop() {
    local pid
    pid=$(cat "$OWN_PID_FILE")
    kill "$pid"
    for _ in $(seq 400); do
        [ -d "/proc/$pid" ] || return 0
        sleep 0.1
    done
    die "the engine of its own ($pid) has not ended within 40 s; see $OWN/dockerd.log"
}

# From the first engine, where an image is missing or another one by now.
own_images() {
    local name id stale=()
    for name in $OWN_IMAGES ${ROLLOUT_TESTBED_IMAGE:-rollout:latest}; do
        id=$(docker image inspect -f '{{.Id}}' "$name" 2>/dev/null) || die "no image $name to take to the engine of its own"
        [ "$(own_docker image inspect -f '{{.Id}}' "$name" 2>/dev/null)" = "$id" ] || stale+=("$name")
    done
    [ ${#stale[@]} -eq 0 ] || docker save "${stale[@]}" | own_docker load -q >/dev/null \
        || die "images could not be taken to the engine of its own"
}

own_env() {
    own_runs || return 0
    echo "export ROLLOUT_TESTBED_OWN_SOCKET=$(printf %q "$OWN/docker.sock")"
    echo "export ROLLOUT_TESTBED_OWN_NETWORK=/run/netns/$OWN_NETNS"
}

own_remove_everything_left() { (DOCKER_HOST=unix://$OWN/docker.sock; export DOCKER_HOST; remove_everything_left); }

own_down() {
    [ -d "$OWN" ] || return 0
    export PATH=$PATH:/usr/sbin:/sbin
    if own_runs; then
        own_remove_everything_left
        own_stop
    fi
    ip netns delete $OWN_NETNS 2>/dev/null || true
    umount "$OWN"/exec/netns/* 2>/dev/null || true
    rm -rf "$OWN"
}
