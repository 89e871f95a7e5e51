# Prometheus of this machine's Debian, for the test that has a real one.
# shellcheck shell=bash

# Prints where the program is.
prometheus_program() {
    local home=$CACHE/prometheus.unpacked
    [ -x "$home/usr/bin/prometheus" ] || {
        is_debian || die "the machine is no Debian, whose package prometheus is needed"
        fetch_debian "$(. /etc/os-release && echo "$VERSION_CODENAME")" prometheus "$home"
        forget_debian_lists
    }
    echo "$home/usr/bin/prometheus"
}
