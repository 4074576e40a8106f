# Everything a person or CI does with this tree. `make help` lists it.
.DEFAULT_GOAL := help
.SUFFIXES:
SHELL := /bin/bash

KDK_ROOT ?= $(CURDIR)/kdk-root
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
KDK := $(abspath $(TARGET_DIR))/release/kdk

.PHONY: help build run test test-schema peers test-clients record storm bootstrap check fmt lint doc deny generate bench fuzz fuzz-long install clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

build: ## build the release binary
	cargo build --release --locked

run: build ## make a KDK root with a registry, start it, say what next
	@"$(KDK)" up --yes "$(KDK_ROOT)"

bootstrap: ## install what the tests need
	support/bootstrap

# Tests wait for servers more than they compute.
export RUST_TEST_THREADS ?= $(shell expr 2 '*' $$(getconf _NPROCESSORS_ONLN))

test: bootstrap ## install what the tests need, and run all tests
	cargo test --locked

test-schema: bootstrap ## run the tests of metadata on a database as GitLab's registry makes it
	KDK_TEST_SCHEMA=gitlab cargo test --locked --test it -- _a_database metadata:: import online storm

peers: ## build the clients and registries of the client matrix (Go 1.24 or newer)
	support/bootstrap --peers

test-clients: peers ## run every client against every setup, and every registry in a root
	KDK_PEERS="$(abspath $(TARGET_DIR))/peers" cargo test --locked --test it -- --ignored --test-threads 2

storm: bootstrap ## kill servers under mixed load, many rounds (ROUNDS=200)
	KDK_STORM_ROUNDS="$(or $(ROUNDS),200)" cargo test --locked --test it -- --nocapture storm an_import_that_is_killed signatures_that_came

record: peers ## record what registries answer anew; or one's: URL=… NAME=… VERSION=… CONFIGURATION=…
	KDK_PEERS="$(abspath $(TARGET_DIR))/peers" KDK_GENERATE=1 \
	KDK_RECORD_URL="$(URL)" KDK_RECORD_NAME="$(NAME)" KDK_RECORD_VERSION="$(VERSION)" KDK_RECORD_CONFIGURATION="$(CONFIGURATION)" \
	cargo test --locked --test it -- --include-ignored $(if $(URL),recorder::a_registry_is_recorded,answers_as_recorded)

check: ## all that CI runs
	.ci/run

fmt: ## format the code
	cargo fmt

lint: ## clippy, with warnings as errors
	cargo clippy --locked --all-targets -- -D warnings

doc: ## build the documentation of the code, with warnings as errors
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

deny: ## check licences, bans and sources of dependencies (advisories where the network allows)
	@command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny check licenses bans sources
	@cargo deny check advisories || echo "advisories were not checked: see above"

generate: ## write the generated files
	cargo run --quiet --locked -- generate
	KDK_GENERATE=1 cargo test --quiet --locked --test it the_page_about_clients >/dev/null

bench: build bootstrap ## measure, the registry against docker-registry too; prints tables
	benches/startup "$(KDK)"
	cargo bench --locked --bench registry

fuzz: ## fuzz connections, requests, manifests, tokens, keys, passwords and settings, a minute each
	tests/fuzz/run 60

fuzz-long: ## the same until 10,000,000 inputs or an hour each; keeps what was found
	RUNS=10000000 KEEP=1 tests/fuzz/run 3600

install: ## install kdk for this user
	cargo install --locked --path .

clean: ## remove what was built
	cargo clean
