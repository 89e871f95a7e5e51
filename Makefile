# Builds, installs, tests and demonstrates rollout. `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO  ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Of the binary: release, or dist, which takes minutes more and is what packages hold.
PROFILE ?= release
# The target of the binary where that is another than this machine, such as aarch64-unknown-linux-gnu. It needs
# `rustup target add`, and Debian's gcc-aarch64-linux-gnu and qemu-user-static.
TRIPLE ?=
ifneq ($(TRIPLE),)
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER ?= aarch64-linux-gnu-gcc
endif
BINARY = $(TARGET)/$(if $(TRIPLE),$(TRIPLE)/)$(PROFILE)/rollout
# A copy of the binary, which a build meanwhile leaves alone.
STAGED := $(TARGET)/image/rootfs/rollout
IS_ROOT := $(filter 0,$(shell id -u))
PREFIX ?= $(if $(IS_ROOT),/usr/local,$(HOME)/.local)
# As root it is a folder that every Docker CLI reads, for all users.
PLUGINS := $(if $(IS_ROOT),/usr/local/libexec/docker,$(or $(DOCKER_CONFIG),$(HOME)/.docker))/cli-plugins
IMAGE  ?= rollout:latest
TESTBED := tests/testbed/testbed
# End-to-end tests mostly wait, so more of them run at a time than there are cores.
TEST_THREADS ?= 6
# crt-static for the last crate alone: as a general flag it would reach procedural macros, which cannot be static.
STATIC = -- -C target-feature=+crt-static $(PACKED)
# A megabyte less, where the C library of the machine that builds is glibc 2.36 or newer.
PACKED = $(if $(filter dist,$(PROFILE)),-C link-arg=-z -C link-arg=pack-relative-relocs)
# The tests of both packages by one selection, so that cargo builds their dependencies once.
TESTS := $(CARGO) test --locked --workspace

# Brings the testbed up and builds the binary while MEANWHILE runs, makes the image, runs what follows, and takes down what
# it brought up, whatever the outcome. The binary is one codegen unit and compiles on one core.
IN_TESTBED = export ROLLOUT_TESTBED_HOLDER=pid-$$$$; \
	trap 'status=$$?; trap - EXIT; kill $$build 2>/dev/null || true; $(TESTBED) down || true; exit $$status' EXIT; \
	trap 'exit 130' INT; trap 'exit 143' TERM; \
	build=; $(TESTBED) up & up=$$!; \
	$(MAKE) --no-print-directory build & build=$$!; \
	$(MEANWHILE); wait $$build; wait $$up; \
	$(USE_TESTBED)
USE_TESTBED := testbed_env=$$($(TESTBED) env); eval "$$testbed_env"; \
	$(TESTBED) remember $(IMAGE); $(MAKE) --no-print-directory image >/dev/null; \
	export ROLLOUT_TESTBED_BINARY=$(abspath $(STAGED));
# Tests start the Compose plugin without the Docker CLI; the demonstration and the benchmark run both, as users do.
QUICK_COMPOSE := export PATH="$(abspath tests/testbed/bin):$$PATH";

.PHONY: help build image install uninstall dist demo test one testbed-down soak check check-actions fmt bench crowd lines clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the static binary, target/release/rollout
	@$(CARGO) rustc --locked --profile $(PROFILE) $(if $(TRIPLE),--target $(TRIPLE)) --bin rollout $(STATIC)

image: build ## the image rollout:latest, on the engine that answers
	@install -D -m 755 $(BINARY) $(STAGED)
	@$(STAGED) image --tag $(IMAGE)

SHARE := $(PREFIX)/share
PLUGIN := $(PLUGINS)/docker-rollout
# Under sudo there may be no cargo: then it installs what `make build` has left.
install: $(if $(shell command -v $(CARGO)),build) ## into PREFIX: the binary, man pages, completions; and the Docker CLI plugin `docker rollout`
	@install -D -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/rollout
	@mkdir -p $(dir $(DESTDIR)$(PLUGIN)) && ln -sfn $(PREFIX)/bin/rollout $(DESTDIR)$(PLUGIN)
	@.github/packaging/share $(DESTDIR)$(SHARE) site-functions $(BINARY)
	@echo "installed $(PREFIX)/bin/rollout and $(PLUGIN), man pages and completions in $(SHARE)"

uninstall: ## removes what install has put there
	@rm -f $(addprefix $(DESTDIR),$(PREFIX)/bin/rollout $(PLUGIN) $(addprefix $(SHARE)/,man/man1/rollout.1 man/man1/rollout-*.1 \
		man/man7/rollout-*.7 bash-completion/completions/rollout zsh/site-functions/_rollout fish/vendor_completions.d/rollout.fish))

dist: PROFILE = dist
dist: build ## tarball, .deb package and checksums in target/dist, each tried; TRIPLE=aarch64-unknown-linux-gnu for arm64
	@.github/packaging/dist $(BINARY) $(TRIPLE)

demo: MEANWHILE = $(CARGO) build --locked --release -p testbed --bin demo
demo: ## a rollout under load, and a table of what the clients saw
	@$(IN_TESTBED) \
	$(TARGET)/release/demo

# The tests themselves are built without optimisation: that is quicker, and checks for overflows. What they
# run end to end is the optimised static binary, as shipped. The inputs of the property tests are the same in each run;
# `make soak` tries others, and more of them.
test: MEANWHILE = $(TESTS) --no-run --lib --test end-to-end; PROPTEST_RNG_SEED=1 $(TESTS) --lib
test: ## all tests but the long ones of soak; brings up all they need
	@$(IN_TESTBED) $(QUICK_COMPOSE) \
	$(TESTS) --lib -- --ignored --test-threads=$(TEST_THREADS); \
	$(TESTS) --test end-to-end -- --test-threads=$(TEST_THREADS) $(LONG:%=--skip %)

# What takes too long for each change: the agent, kills and faults one by one, also of several services, each version of
# Traefik and several of them, odd routing, pins, a Prometheus, notifications, engines elsewhere and in waves, a
# Swarm, the examples, and doctor's advice carried out.
LONG := soak:: agent:: notify:: set::killed set::of_several set::a_canary set::two_commands crash::a_rollout_killed_before crash::a_rollout_killed_after recreate::killed doctor:: examples:: faults:: matrix:: odd_routing:: pin:: prometheus:: remote:: rollout_image::a_container several_traefiks:: stack::killed:: together::killed:: together::one_of_two_that_fails rolling::killed rolling::a_signal rolling::paused rolling::a_failed rolling::a_plain_up rolling::an_undo rolling::new_replicas stack::twelve::what_a_broken together::by_pin_files waves::engines failure::a_version_that_traefik_never_served canary::killed rolling::while_an rolling::update_config canary::each_step canary::a_promot canary::a_step_without canary::whatever canary::a_restart canary::a_run_with_attach plan::an_unfinished preview::pinned shapes::lines::a_canary figures::a_child swarm::

one: build ## the tests whose name contains T, such as T=three_replicas, on a testbed that stays up
	@test -n "$(T)" || { echo "which test? make one T=a_part_of_its_name" >&2; exit 2; }
	@export ROLLOUT_TESTBED_HOLDER=make-one; $(TESTBED) up; $(USE_TESTBED) $(QUICK_COMPOSE) \
	$(TESTS) --no-run --lib --test end-to-end; \
	$(TESTS) --lib --test end-to-end -- --include-ignored --list "$(T)" 2>/dev/null | grep ': test$$' >/dev/null \
		|| { echo "no test has $(T) in its name" >&2; exit 2; }; \
	$(TESTS) --lib --test end-to-end -- --include-ignored --test-threads=$(TEST_THREADS) "$(T)"; \
	echo 'the testbed stays up until `make testbed-down`; for a shell: eval "$$(tests/testbed/testbed env)"'

testbed-down: ## takes down what `make one` has left up
	@ROLLOUT_TESTBED_HOLDER=make-one $(TESTBED) down

# The main job, which is repeated with a Traefik that reads the engine's socket itself and is switched by pin files.
PINNED := bake:: blue_green:: crash:: drain:: failure:: first_start:: history:: hooks:: operator:: readiness:: shapes:: together::
soak: MEANWHILE = PROPTEST_CASES=4096 $(TESTS) --lib; $(TESTS) --no-run --test end-to-end
soak: ## the long proofs: faults at every call and in every phase, pins, every Traefik, the examples; over an hour
	@$(IN_TESTBED) $(QUICK_COMPOSE) export ROLLOUT_TESTBED_DOCTOR=1; \
	$(TESTS) --test end-to-end -- --test-threads=1 --nocapture soak::; \
	$(TESTS) --test end-to-end -- --test-threads=$(TEST_THREADS) $(filter-out soak::,$(LONG)); \
	ROLLOUT_TESTBED_SWITCH=pin $(TESTS) --test end-to-end -- --test-threads=$(TEST_THREADS) --skip soak:: $(PINNED)

check: ## formatting and lints
	@$(CARGO) fmt --all -- --check
	@$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

ZIZMOR := zizmor==1.32.0
check-actions: ## lints .github/workflows; fetches the linter into target/tools once
	@test -x target/tools/$(ZIZMOR)/bin/zizmor || { python3 -m venv target/tools/$(ZIZMOR) \
		&& target/tools/$(ZIZMOR)/bin/pip install --quiet $(ZIZMOR); }
	@target/tools/$(ZIZMOR)/bin/zizmor --offline --quiet --persona pedantic .github

fmt: ## formats the code
	@$(CARGO) fmt --all

lines: ## lines of source by module, without tests
	@files=$$(find src -name '*.rs'); awk -f tests/testbed/lines.awk pass=1 $$files pass=2 $$files

bench: MEANWHILE = $(CARGO) bench --locked -p testbed --no-run
bench: ## figures beside a baseline of the same run
	@$(IN_TESTBED) \
	$(CARGO) bench --locked -p testbed --bench rollout

crowd: MEANWHILE = $(CARGO) bench --locked -p testbed --no-run
crowd: ## the same beside 0, 200 and 1,000 other containers, which it makes; ROUNDS=30 rollouts each
	@$(IN_TESTBED) \
	$(CARGO) bench --locked -p testbed --bench crowd

clean: ## what a build leaves behind; the testbed's cache stays
	@$(CARGO) clean
