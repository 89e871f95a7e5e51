# The Compose projects of the tests (tests/testbed/src/project.rs) that are left on an engine that is not ours: their removal.
# shellcheck shell=bash

PROJECTS=$RUN/projects

# Each has a file of its name: the fronts that tests keep for one another, and what a test that was killed has left.
projects_down() {
    local file
    for file in "$PROJECTS"/*; do
        [ ! -e "$file" ] || remove_project "$(basename "$file")"
    done
}

remove_project() {
    local name=$1 own=label=com.docker.compose.project=$1
    docker ps -aq --filter "$own" | xargs -r docker rm -f -v >/dev/null
    docker ps -aq --filter "name=^/?rollout-lock\\.$name\\." | xargs -r docker rm -f -v >/dev/null
    docker ps -aq --filter "volume=$name-state" | xargs -r docker rm -f -v >/dev/null
    # The engine frees the address of a container a moment after it has reported its removal.
    for _ in 1 2 3; do
        docker network ls -q --filter "$own" | xargs -r docker network rm >/dev/null 2>&1 && break
        sleep 1
    done
    [ -z "$(docker network ls -q --filter "$own")" ] || say "left behind: networks of the project $name"
    docker volume ls -q --filter "$own" | xargs -r docker volume rm -f >/dev/null
    docker volume rm -f "$name-state" >/dev/null 2>&1 || true
    docker images --format '{{.Repository}}:{{.Tag}}' --filter "reference=rollout/$name-*" | xargs -r docker rmi >/dev/null
}
