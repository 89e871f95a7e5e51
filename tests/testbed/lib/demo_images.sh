# The demo application's images: one binary, its behaviours baked in as environment variables.
# shellcheck shell=bash

# Docker's own defaults but for the interval, so that a failing check is reported after three of them.
CHECK_EVERY_SECOND='HEALTHCHECK --interval=1s --timeout=2s --retries=3 CMD ["/app","check"]'
# Each check is a process in a container, which is what the tests spend most of the machine on.
CHECK_ALLOWING_A_SLOW_START='HEALTHCHECK --interval=2s --timeout=2s --start-period=15s --retries=3 CMD ["/app","check"]'
CHECK_SELDOM='HEALTHCHECK --interval=30s --timeout=2s --retries=3 CMD ["/app","check"]'

demo_images() {
    local version
    demo_binary
    for version in v1 v2; do
        demo_image $version "ENV VERSION=$version" "$CHECK_ALLOWING_A_SLOW_START"
        demo_image $version-plain "ENV VERSION=$version"
        demo_image $version-slowcheck "ENV VERSION=$version" "$CHECK_SELDOM"
    done
    demo_image broken "ENV VERSION=v2 UNHEALTHY=1" "$CHECK_EVERY_SECOND"
    demo_image crash "ENV VERSION=v2 CRASH_AFTER=0"
    demo_image crash2 "ENV VERSION=v2 CRASH_AFTER=2" "$CHECK_EVERY_SECOND"
    demo_image crash2-plain "ENV VERSION=v2 CRASH_AFTER=2"
    demo_image slow "ENV VERSION=v2 START_DELAY=5"
    demo_image db "ENV VERSION=db PORT=5432" 'CMD ["db"]'
}

# demo_image TAG LINE…: rollout-demo:TAG with further Dockerfile lines; made anew only if something in it changed.
demo_image() {
    local name=rollout-demo:$1 context=$CACHE/demo-image key
    shift
    mkdir -p "$context"
    printf '%s\n' '# One behaviour of the demo application.' 'FROM scratch' 'COPY app /app' 'EXPOSE 80' \
        'ENTRYPOINT ["/app"]' "$@" >"$context/Dockerfile"
    key=$(cat "$DEMO_BINARY" "$context/Dockerfile" | sha256sum | cut -c1-16)
    image_is_current "$name" "$key" && return
    cp "$DEMO_BINARY" "$context/app"
    build_image "$name" "$key" "$context"
}

# Sets DEMO_BINARY. Kept by a digest of its sources: `up` need not even ask cargo.
demo_binary() {
    DEMO_BINARY=${ROLLOUT_TESTBED_APP:-$CACHE/demo-app-$(demo_sources | sha256sum | cut -c1-16)}
    [ -x "$DEMO_BINARY" ] && return
    [ -z "${ROLLOUT_TESTBED_APP:-}" ] || die "ROLLOUT_TESTBED_APP=$ROLLOUT_TESTBED_APP is no program"
    say "building the demo application"
    # crt-static for this one crate: as a general flag it would build every dependency a second time.
    (cd "$PROJECT_DIR" && cargo rustc --release --quiet --locked -p testbed --bin demo-app -- -C target-feature=+crt-static) \
        9>&- </dev/null || die "the demo application did not build"
    cp "${CARGO_TARGET_DIR:-$PROJECT_DIR/target}/release/demo-app" "$DEMO_BINARY.part"
    mv "$DEMO_BINARY.part" "$DEMO_BINARY"
    find "$CACHE" -maxdepth 1 -name 'demo-app-*' -mtime +30 -delete
}

demo_sources() { cat "$TESTBED_DIR"/src/bin/demo-app/*.rs && rustc --version; }
