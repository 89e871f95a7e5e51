# The Docker engine: uses the one that answers, else installs and starts one, and stops only what it started.
# shellcheck shell=bash

ENGINE_PID_FILE=$RUN/dockerd.pid
ENGINE_LOG=$RUN/dockerd.log
HOLDERS=$RUN/holders
# Starts dockerd with the arguments that follow. crun fails on a host that mounts both cgroup hierarchies, so the second is
# unmounted for dockerd alone.
# shellcheck disable=SC2016 # for the shell that it is given to
WITHOUT_HYBRID_CGROUPS='! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified; exec dockerd "$@"'
# A fraction of what runc takes to start a process in a container, and every health check is one.
WITH_CRUN=(--add-runtime crun=/usr/bin/crun --default-runtime crun)

engine_answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# True while the engine that we started is alive; a stale file, or a pid since taken by another program, is not.
engine_is_ours() {
    local pid
    pid=$(cat "$ENGINE_PID_FILE" 2>/dev/null) && [ -n "$pid" ] || return 1
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ]
}

engine_up() {
    if engine_answers; then
        say "engine $(docker version --format '{{.Server.Version}}') answers$(engine_is_ours || echo ' (not ours)')"
    else
        # An engine that does not answer has no holder.
        rm -rf "$HOLDERS"
        engine_installed
        start_engine
        # An engine that was killed has left its containers behind, and those with a restart policy are up again.
        remove_everything_left
    fi
    mkdir -p "$HOLDERS" && : >"$HOLDERS/$HOLDER"
}

engine_installed() {
    require_installable
    command -v dockerd >/dev/null || [ -x /usr/sbin/dockerd ] || install_packages docker.io iptables
    [ -x /usr/bin/crun ] || install_packages crun
}

require_installable() {
    local missing=()
    [ "$(id -u)" = 0 ] || missing+=("root rights (now: $(id -un)), or a Docker engine that '$(id -un)' can reach")
    is_debian || missing+=("Debian (now: $(. /etc/os-release 2>/dev/null && echo "${PRETTY_NAME:-unknown}")), or a Docker engine")
    [ ${#missing[@]} -eq 0 ] && return
    say "no Docker engine answers, and none can be started here. Missing:"
    printf 'testbed:   - %s\n' "${missing[@]}" >&2
    exit 1
}

# Never at the price of a package that is there.
install_packages() {
    say "installing $*"
    apt_update
    without_service_starts apt-get install -y -q --no-install-recommends --no-remove "$@" \
        >"$RUN/install.log" 2>&1 || { tail -20 "$RUN/install.log" >&2; die "$* did not install; see $RUN/install.log"; }
}

# The packages must not start an engine of their own: `down` could not tell it from the user's.
without_service_starts() {
    local policy=/usr/sbin/policy-rc.d made='' result=0
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && made=1
    fi
    DEBIAN_FRONTEND=noninteractive "$@" </dev/null || result=$?
    [ -z "$made" ] || rm -f $policy
    return $result
}

start_engine() {
    remove_stale_pid "$ENGINE_PID_FILE" dockerd
    remove_stale_pid /var/run/docker.pid dockerd
    remove_stale_pid /var/run/docker/containerd/containerd.pid containerd
    mkdir -p "$CACHE/engine"
    say "starting dockerd (data in $CACHE/engine, log in $ENGINE_LOG)"
    GOGC=400 PATH=$PATH:/usr/sbin:/sbin setsid unshare --mount sh -c "$WITHOUT_HYBRID_CGROUPS" \
        dockerd --data-root "$CACHE/engine" --pidfile "$ENGINE_PID_FILE" --userland-proxy=false "${WITH_CRUN[@]}" \
        >"$ENGINE_LOG" 2>&1 </dev/null 9>&- &
    local child=$!
    for _ in $(seq 300); do
        engine_answers && { say "engine $(docker version --format '{{.Server.Version}}') started"; return; }
        kill -0 $child 2>/dev/null || break
        sleep 0.2
    done
    tail -20 "$ENGINE_LOG" >&2
    engine_is_ours && kill "$(cat "$ENGINE_PID_FILE")"
    die "dockerd did not come up; see $ENGINE_LOG"
}

# dockerd refuses to start where its pid file names any living process, whatever program that is by now.
remove_stale_pid() {
    local file=$1 program=$2 pid
    pid=$(cat "$file" 2>/dev/null) || return 0
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$program" ] || rm -f "$file"
}

# Holders that are still there, ours left out; those named after a process that has ended are swept.
other_holders() {
    local file name
    for file in "$HOLDERS"/*; do
        [ -e "$file" ] || continue
        name=$(basename "$file")
        [ "$name" = "$HOLDER" ] && continue
        case $name in pid-*) [ -d "/proc/${name#pid-}" ] || { rm -f "$file"; continue; } ;; esac
        echo "$name"
    done
}

engine_down() {
    rm -f "$HOLDERS/$HOLDER"
    local others
    others=$(other_holders)
    if [ -n "$others" ]; then
        say "left up: still held by $(echo "$others" | xargs)"
        return
    fi
    far_down
    own_down
    nodes_down
    swarm_down
    if engine_is_ours; then
        stop_engine
    elif engine_answers; then
        projects_down
        images_down
        say "the engine is not ours: left running"
    else
        rm -f "$ENGINE_PID_FILE"
        say "nothing to take down"
    fi
    rm -rf "$RUN/fronts" "$PROJECTS"
}

stop_engine() {
    local pid
    pid=$(cat "$ENGINE_PID_FILE")
    say "stopping dockerd ($pid)"
    # What is left would come up again with the next engine: restart policies outlive the daemon.
    remove_everything_left
    kill "$pid"
    for _ in $(seq 150); do
        [ -d "/proc/$pid" ] || { rm -f "$ENGINE_PID_FILE"; say "engine stopped"; return; }
        sleep 0.2
    done
    die "dockerd ($pid) has not ended within 30 s; see $ENGINE_LOG"
}

remove_everything_left() {
    local ids
    engine_answers || return 0
    ids=$(docker ps -aq)
    # shellcheck disable=SC2086 # a list of ids
    [ -z "$ids" ] || docker rm -f -v $ids >/dev/null
    docker network prune -f >/dev/null
    ids=$(docker volume ls -q)
    # shellcheck disable=SC2086
    [ -z "$ids" ] || docker volume rm -f $ids >/dev/null
}

engine_status() {
    if engine_answers; then
        echo "engine: $(docker version --format '{{.Server.Version}}'), $(engine_is_ours && echo "started by the testbed" || echo "not ours")"
    else
        echo "engine: none answers"
    fi
    echo "holders: $(ls "$HOLDERS" 2>/dev/null | xargs)"
}
