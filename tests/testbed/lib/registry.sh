# The image registry of this machine's Debian, for the tests that push and pull.
# shellcheck shell=bash

# Prints where the program is.
registry_program() {
    local home=$CACHE/docker-registry.unpacked
    [ -x "$home/usr/bin/docker-registry" ] || {
        is_debian || die "the machine is no Debian, whose package docker-registry is needed"
        fetch_debian "$(. /etc/os-release && echo "$VERSION_CODENAME")" docker-registry "$home"
        forget_debian_lists
    }
    echo "$home/usr/bin/docker-registry"
}
