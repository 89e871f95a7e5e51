# A Swarm of three engines, a manager and two workers, each on a machine of its own; a bridge on a further one joins these.
# shellcheck shell=bash

NODES='nodes-1 nodes-2 nodes-3'
NODES_BRIDGE=nodes-bridge

nodes_up() {
    local name
    apart_possible
    if ! nodes_answer; then
        # What is left of one that was killed.
        nodes_down
        say "starting three engines (data in $CACHE/nodes-*-engine, logs in $RUN/nodes-*/dockerd.log)"
        for name in $NODES; do apart_start "$name"; done
        nodes_network
        nodes_swarm
    fi
    for name in $NODES; do apart_images "$name" traefik:v3.7 rollout-demo:v1 rollout-demo:v2 rollout-demo:broken; done
}

nodes_manager() { apart_docker nodes-1 "$@"; }

nodes_answer() {
    local name
    for name in $NODES; do apart_answers "$name" || return 1; done
    [ "$(nodes_manager node ls -q 2>/dev/null | wc -l)" = 3 ]
}

# nodes_ip NAME ARGUMENT…: `ip` in the network of one of the machines.
nodes_ip() { nsenter "--net=$(apart_network "$1")" ip "${@:2}"; }

nodes_network() {
    local name
    apart_machine $NODES_BRIDGE
    nodes_ip $NODES_BRIDGE link add nodes type bridge && nodes_ip $NODES_BRIDGE link set nodes up || die "no bridge for the nodes"
    for name in $NODES; do
        nodes_ip $NODES_BRIDGE link add "$name" type veth peer name eth0 netns "$(apart_holder "$name")" \
            && nodes_ip $NODES_BRIDGE link set "$name" master nodes up \
            && nodes_ip "$name" addr add "$(nodes_address "$name")/24" dev eth0 \
            && nodes_ip "$name" link set eth0 up || die "the engine $name is not joined to the bridge"
    done
}

# Of the range for tests of networks, from which no engine takes a subnet.
nodes_address() { echo "198.18.0.${1#nodes-}"; }

nodes_swarm() {
    local name token
    # On a busy machine a node that is late is not lost.
    nodes_manager swarm init --advertise-addr "$(nodes_address nodes-1)" --dispatcher-heartbeat 60s >/dev/null || die "no Swarm of the nodes"
    token=$(nodes_manager swarm join-token -q worker)
    for name in nodes-2 nodes-3; do
        apart_docker "$name" swarm join --token "$token" --advertise-addr "$(nodes_address "$name")" \
            "$(nodes_address nodes-1):2377" >/dev/null || die "the engine $name does not join the Swarm"
    done
}

nodes_env() {
    nodes_answer || return 0
    echo "export ROLLOUT_TESTBED_NODES_SOCKET=$(printf %q "$RUN/nodes-1/docker.sock")"
    echo "export ROLLOUT_TESTBED_NODES_NETWORK=$(apart_network nodes-1)"
}

nodes_down() {
    local name
    for name in $NODES; do
        # The Swarm would start again what is removed.
        ! apart_answers "$name" || apart_docker "$name" swarm leave --force >/dev/null 2>&1 || true
        apart_down "$name"
    done
    apart_down $NODES_BRIDGE
}
