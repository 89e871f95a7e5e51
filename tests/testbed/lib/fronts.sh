# Fronts that the tests keep running for one another (tests/testbed/src/front.rs): their removal.
# shellcheck shell=bash

FRONTS=$RUN/fronts

# Each front is a Compose project, whose name it keeps in a file.
fronts_down() {
    local file
    [ -d "$FRONTS" ] || return 0
    if engine_answers; then
        for file in "$FRONTS"/*/name; do
            [ ! -e "$file" ] || remove_project "$(cat "$file")"
        done
    fi
    rm -rf "$FRONTS"
}

remove_project() {
    local own=label=com.docker.compose.project=$1
    docker ps -aq --filter "$own" | xargs -r docker rm -f -v >/dev/null
    docker network ls -q --filter "$own" | xargs -r docker network rm >/dev/null
    docker volume ls -q --filter "$own" | xargs -r docker volume rm -f >/dev/null
}
