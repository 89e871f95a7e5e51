# Debian packages: single ones from other suites, fetched without touching the machine's own apt set-up.
# shellcheck shell=bash

is_debian() { [ "$(. /etc/os-release 2>/dev/null && echo "${ID:-}")" = debian ]; }

# need PROGRAM PACKAGE
need() {
    command -v "$1" >/dev/null && return
    [ "$(id -u)" = 0 ] && is_debian || die "$1 is missing (Debian's package $2)"
    install_packages "$2"
}

# A source that does not answer is no reason to stop: the install that follows says what is missing.
apt_update() { apt-get update -q >"$RUN/apt-update.log" 2>&1 || say "apt-get update had errors; see $RUN/apt-update.log"; }

# The mirror this machine uses for Debian itself.
debian_mirror() {
    local uri
    uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -m1 -E '/debian/?$') || true
    [ -n "$uri" ] || die "no Debian source in this machine's apt configuration"
    echo "$uri"
}

# fetch_debian SUITE PACKAGE DIR: unpacks one package of another suite into DIR.
fetch_debian() {
    local suite=$1 package=$2 into=$3 work options
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null \
        || die "'$package' is missing, and only a Debian machine can fetch it"
    work=$CACHE/apt-$suite
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/debs"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(debian_mirror) $suite main" >"$work/sources.list"
    options=(-q -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
        -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=)
    say "fetching $package from $suite"
    [ -e "$work/updated" ] || {
        apt-get "${options[@]}" update >"$work/log" 2>&1 || { cat "$work/log" >&2; die "no package lists for $suite"; }
        touch "$work/updated"
    }
    (cd "$work/debs" && rm -f "${package}_"*.deb && apt-get "${options[@]}" download "$package") >"$work/log" 2>&1 || {
        rm -f "$work/updated"
        cat "$work/log" >&2
        die "could not download $package from $suite"
    }
    rm -rf "$into" && mkdir -p "$into"
    dpkg-deb -x "$work/debs/${package}_"*.deb "$into" || die "could not unpack $package"
}

# The lists are large and soon stale: only what was unpacked from them is kept.
forget_debian_lists() { rm -rf "$CACHE"/apt-*; }
