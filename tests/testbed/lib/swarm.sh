# A Swarm of the one engine.

SWARM_MADE=$RUN/swarm

swarm_up() {
    if [ "$(docker info -f '{{.Swarm.LocalNodeState}}')" = active ]; then return; fi
    docker swarm init --advertise-addr 127.0.0.1 >/dev/null
    touch "$SWARM_MADE"
}

# An engine that was in a Swarm before stays in it.
swarm_down() {
    [ -e "$SWARM_MADE" ] || return 0
    ! engine_answers || docker swarm leave --force >/dev/null
    rm -f "$SWARM_MADE"
}
