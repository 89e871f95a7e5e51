# An engine to be restarted in the middle of a test: no other test uses it.
# shellcheck shell=bash

# own_up [live]: starts it, or starts it anew; with `live`, containers outlive it.
own_up() {
    local options=()
    [ "${1:-}" != live ] || options+=(--live-restore)
    apart_possible
    ! apart_answers own || apart_stop own
    apart_start own "${options[@]}"
    apart_images own traefik:v3.7 rollout-demo:v1 rollout-demo:v2
}

own_env() {
    apart_answers own || return 0
    echo "export ROLLOUT_TESTBED_OWN_SOCKET=$(printf %q "$RUN/own/docker.sock")"
    echo "export ROLLOUT_TESTBED_OWN_NETWORK=$(apart_network own)"
}

own_down() { apart_down own; }
