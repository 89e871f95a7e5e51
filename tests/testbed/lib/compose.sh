# Docker Compose v2 as a CLI plugin: the one that answers, and an old and a new one for the tests to choose from.
# shellcheck shell=bash

# The DOCKER_CONFIG that makes `docker compose` work; empty where it works by itself.
COMPOSE_CONFIG=

compose_up() {
    compose_fetch trixie
    compose_fetch sid
    compose_select
    if [ -n "$COMPOSE_CONFIG" ]; then export DOCKER_CONFIG=$COMPOSE_CONFIG; fi
    say "compose $(docker compose version --short) by default"
}

# compose_fetch SUITE: the plugin at compose-SUITE/docker-compose, and a DOCKER_CONFIG that selects it.
compose_fetch() {
    local suite=$1 home=$CACHE/compose-$1 plugins=$CACHE/docker-config-$1/cli-plugins found
    if [ ! -x "$home/docker-compose" ]; then
        is_debian || { say "compose of Debian $suite left out: this is not Debian"; return; }
        fetch_debian "$suite" docker-compose "$home.unpacked"
        found=$(find "$home.unpacked" -type f -name docker-compose -perm -u+x | head -1)
        [ -n "$found" ] || die "no docker-compose in the package of $suite"
        mkdir -p "$home" && cp "$found" "$home/docker-compose.part" && mv "$home/docker-compose.part" "$home/docker-compose"
        rm -rf "$home.unpacked"
    fi
    mkdir -p "$plugins" && ln -sfn "$home/docker-compose" "$plugins/docker-compose"
}

compose_select() {
    if compose_answers_by_itself; then
        COMPOSE_CONFIG=
    elif [ -x "$CACHE/compose-sid/docker-compose" ]; then
        COMPOSE_CONFIG=$CACHE/docker-config-sid
    else
        die "no Compose v2; run '$0 up' first"
    fi
}

# Our own DOCKER_CONFIG may be in the environment already, and would answer for the user's.
compose_answers_by_itself() {
    local own=${DOCKER_CONFIG:-} version
    case $own in "$CACHE"/*) own='' ;; esac
    version=$(env -u DOCKER_CONFIG ${own:+DOCKER_CONFIG="$own"} docker compose version --short 2>/dev/null) || return 1
    case ${version#v} in 0.* | 1.*) return 1 ;; [0-9]*) return 0 ;; *) return 1 ;; esac
}

compose_status() {
    local suite
    for suite in trixie sid; do
        [ -x "$CACHE/compose-$suite/docker-compose" ] || continue
        echo "compose $suite: $("$CACHE/compose-$suite/docker-compose" version --short), select with DOCKER_CONFIG=$CACHE/docker-config-$suite"
    done
}
