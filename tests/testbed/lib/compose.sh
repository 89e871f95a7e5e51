# Docker Compose v2 as a CLI plugin: an old and a new one of the testbed's own, for the tests to choose from.
# shellcheck shell=bash

# The DOCKER_CONFIG that selects the testbed's Compose; empty where it has none.
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

# The testbed's own, whatever the machine has: where that is no Debian, the machine's.
compose_select() {
    if [ -x "$CACHE/compose-sid/docker-compose" ]; then
        COMPOSE_CONFIG=$CACHE/docker-config-sid
    elif docker compose version --short 2>/dev/null | grep -q '^v\?[2-9]'; then
        COMPOSE_CONFIG=
    else
        die "no Compose v2; run '$0 up' first"
    fi
}

compose_status() {
    local suite
    for suite in trixie sid; do
        [ -x "$CACHE/compose-$suite/docker-compose" ] || continue
        echo "compose $suite: $("$CACHE/compose-$suite/docker-compose" version --short), select with DOCKER_CONFIG=$CACHE/docker-config-$suite"
    done
}
