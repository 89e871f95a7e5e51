# Fronts that the tests keep running for one another (tests/testbed/src/front.rs): their removal.
# shellcheck shell=bash

FRONTS=$RUN/fronts

# Each front is a Compose project, whose name it keeps in a file.
fronts_down() {
    local file
    for file in "$FRONTS"/*/name; do
        [ ! -e "$file" ] || remove_project "$(cat "$file")"
    done
}

remove_project() {
    local own=label=com.docker.compose.project=$1
    docker ps -aq --filter "$own" | xargs -r docker rm -f -v >/dev/null
    # The engine frees the address of a container a moment after it has reported its removal.
    for _ in 1 2 3; do
        docker network ls -q --filter "$own" | xargs -r docker network rm >/dev/null 2>&1 && break
        sleep 1
    done
    [ -z "$(docker network ls -q --filter "$own")" ] || say "left behind: networks of the project $1"
    docker volume ls -q --filter "$own" | xargs -r docker volume rm -f >/dev/null
}
