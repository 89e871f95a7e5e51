# Builds, installs, tests and demonstrates rollout. `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO  ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
BINARY := $(TARGET)/release/rollout
STAGE  := $(TARGET)/image
PREFIX ?= $(if $(filter 0,$(shell id -u)),/usr/local,$(HOME)/.local)
DOCKER_CONFIG_DIR := $(or $(DOCKER_CONFIG),$(HOME)/.docker)
IMAGE  ?= rollout:latest
TESTBED := tests/testbed/testbed
# End-to-end tests mostly wait, so more of them run at a time than there are cores; what measures a time runs alone.
TEST_THREADS ?= 5
# crt-static for the last crate alone: as a general flag it would reach procedural macros, which cannot be static.
STATIC := -- -C target-feature=+crt-static

# Brings the testbed up, image and all, runs what follows in it, and takes down what it brought up, whatever the outcome.
IN_TESTBED := export ROLLOUT_TESTBED_HOLDER=pid-$$$$; \
	trap 'status=$$?; trap - EXIT; $(TESTBED) down || true; exit $$status' EXIT; \
	trap 'exit 130' INT; trap 'exit 143' TERM; \
	$(TESTBED) up; testbed_env=$$($(TESTBED) env); eval "$$testbed_env"; \
	$(TESTBED) remember $(IMAGE); $(MAKE) --no-print-directory image >/dev/null; \
	export ROLLOUT_TESTBED_BINARY=$(abspath $(STAGE)/rootfs/rollout);

.PHONY: help build image install uninstall demo test test-wide test-pin soak check fmt lines bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the static binary, target/release/rollout
	@$(CARGO) rustc --locked --release --bin rollout $(STATIC)

image: build ## the image rollout:latest, on the engine that answers
	@rm -rf $(STAGE)
	@mkdir -p $(STAGE)/rootfs/var/lib/rollout
	@chmod 1777 $(STAGE)/rootfs/var/lib/rollout
	@cp $(BINARY) $(STAGE)/rootfs/rollout
	@cp Dockerfile $(STAGE)/Dockerfile
# The legacy builder is the one that comes with every client; that it is old it says on every run.
	@DOCKER_BUILDKIT=0 docker build -q -t $(IMAGE) $(STAGE) 2>$(TARGET)/image.log || { cat $(TARGET)/image.log >&2; exit 1; }

install: build ## into PREFIX/bin, and as the Docker CLI plugin `docker rollout`
	@install -D -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/rollout
	@install -D -m 755 $(BINARY) $(DESTDIR)$(DOCKER_CONFIG_DIR)/cli-plugins/docker-rollout
	@echo "installed $(PREFIX)/bin/rollout and $(DOCKER_CONFIG_DIR)/cli-plugins/docker-rollout"

uninstall: ## removes what install has put there
	@rm -f $(DESTDIR)$(PREFIX)/bin/rollout $(DESTDIR)$(DOCKER_CONFIG_DIR)/cli-plugins/docker-rollout

demo: build ## a rollout under load, and a table of what the clients saw
	@$(CARGO) build --locked --release --example demo
	@$(IN_TESTBED) \
	$(TARGET)/release/examples/demo

# The tests themselves are built without optimisation: that is quicker, and checks for overflows. What they
# run end to end is the optimised static binary, as shipped.
test: build ## every test, end to end ones too; brings up all they need
	@$(CARGO) test --locked --no-run
	@$(IN_TESTBED) \
	$(CARGO) test --locked $(TEST_ARGS) --lib; \
	$(CARGO) test --locked $(TEST_ARGS) --test rollout -- --test-threads=$(TEST_THREADS) --skip alone:: --skip soak:: $(WIDE:%=--skip %); \
	$(CARGO) test --locked $(TEST_ARGS) --test rollout -- --test-threads=1 alone::

# Other Traefiks, several, other ways to reach and to switch them, a second engine, what Compose files may hold, broken
# stacks, the examples, and a kill in every phase.
WIDE := compose:: crash::every_phase:: doctor:: examples:: init:: matrix:: odd_routing:: pin:: remote:: several_traefiks:: traefik_api::
test-wide: build ## end-to-end tests of other Traefiks, of a second engine, of what Compose files hold, and of a kill in every phase
	@$(CARGO) test --locked --no-run
	@$(IN_TESTBED) \
	$(CARGO) test --locked --test rollout -- --test-threads=3 $(WIDE)

# The stacks of the main job once more, in front of which a Traefik with a file provider reads the engine's socket itself.
PINNED := bake:: blue_green:: crash:: drain:: failure:: first_start:: history:: hooks:: operator:: readiness:: shapes::
test-pin: build ## the main job's end-to-end tests, switched by pin files
	@$(CARGO) test --locked --no-run
	@$(IN_TESTBED) \
	export ROLLOUT_TESTBED_SWITCH=pin; \
	$(CARGO) test --locked --test rollout -- --test-threads=$(TEST_THREADS) --skip alone:: --skip soak:: $(PINNED)

soak: build ## every fault at every call and in every phase, and a hundred rollouts in a row; takes about an hour
	@$(CARGO) test --locked --no-run
	@$(IN_TESTBED) \
	$(CARGO) test --locked --test rollout -- --test-threads=1 --nocapture soak::

check: ## formatting and lints
	@$(CARGO) fmt --all -- --check
	@$(CARGO) clippy --locked --all-targets -- -D warnings

fmt: ## formats the code
	@$(CARGO) fmt --all

lines: ## lines of source by module, without tests
	@files=$$(find src -name '*.rs'); awk -f tests/testbed/lines.awk pass=1 $$files pass=2 $$files

bench: build ## inspects through the socket proxy and directly
	@$(CARGO) bench --locked --bench socket_proxy --no-run
	@$(IN_TESTBED) \
	$(CARGO) bench --locked --bench socket_proxy

clean: ## what a build leaves behind; the testbed's cache stays
	@$(CARGO) clean
