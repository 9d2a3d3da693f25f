# What a person would guess. Cargo's target directory lies outside the clone, and RocksDB is built once.
SHELL := /bin/bash
.DEFAULT_GOAL := help

CACHE ?= $(HOME)/.cache/keelstone
export CARGO_TARGET_DIR ?= $(CACHE)/target
DIR ?= run
PORT ?= 6443
SEEDS ?= 1..60
SEEDS_SHORT ?= 1..60
SEED ?= 1
HOURS ?= 1
CHAOS ?= run/chaos
BIN := $(CARGO_TARGET_DIR)/debug

# Builds RocksDB's library if it is not there, and tells cargo where it is.
ROCKS := export ROCKSDB_LIB_DIR="$$(.ci/rocksdb)" ROCKSDB_STATIC=1

.PHONY: help install build up down demo test lint unit sim sim-short sim-long madsim e2e chaos chaos-short chaos-long chaos-compare bench figures bugs fmt perf-check failover

help: ## says what there is
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: ## installs the Debian packages that are missing
	@.ci/install

build: install ## builds everything, with optimisation
	@$(ROCKS) && cargo build --workspace --all-targets

up: install ## starts three masters and three workers on this machine
	@$(ROCKS) && cargo build -p keelstone
	@$(BIN)/keelstone up --dir $(DIR) --port $(PORT)

down: ## stops them; the data stays
	@$(BIN)/keelstone down --dir $(DIR)

demo: build ## loses a master, a quorum and workers of that cluster, and shows what happens
	@$(BIN)/keelstone-chaos demo --dir $(DIR) --keelstone $(BIN)/keelstone

test: build lint unit sim-short e2e chaos-short ## all that CI runs
	@echo "all of it passed"

lint: install ## formatting, clippy with the determinism bans (licences and arrows are unit tests of xtask)
	cargo fmt --all --check
	@$(ROCKS) && cargo clippy --workspace --all-targets -- -D warnings

unit: install ## unit, golden, property, conformance and differential tests
	@$(ROCKS) && export ETCD35="$$(.ci/etcd)" && cargo test --workspace

differential: install ## 10,000 random programs of requests against a real etcd 3.5 and this store
	@export ETCD35="$$(.ci/etcd)" && DIFFERENTIAL_PROGRAMS=$${DIFFERENTIAL_PROGRAMS:-10000} \
		cargo test -p keelstone-store-server --test it -- differential::random_programs_are --nocapture

SIM := nice $(BIN)/keelstone-sim

sim: build ## the CI set of simulations: 60 mixed seeds, 10 of them twice with equal hashes
	$(SIM) --seeds $(SEEDS) --twice-first 10 --jobs 2

sim-short: build ## five minutes of simulations, as `make test` runs them
	$(SIM) --seeds $(SEEDS_SHORT) --twice-first 3 --jobs 2 --seconds-max 240

sim-long: build ## simulations until it is stopped; it goes on where it was (the seeds done are in sim.done)
	$(SIM) --seeds 1000..1000000 --jobs 2 --done sim.done

# What needs kubectl is left out, and said to be, where there is none (KUBECTL=/path/to/kubectl names one).
with-kubectl = @if [ -n "$$KUBECTL" ] || command -v kubectl >/dev/null; then set -x; $(1); \
	else echo "LEFT OUT, there is no kubectl on PATH: $(1)"; fi

e2e: build ## every kubectl that is found against a real cluster
	$(call with-kubectl,$(BIN)/keelstone-chaos kubectl-e2e --keelstone $(BIN)/keelstone)

# A comma within an argument of a call.
, := ,

# One seed, faults of members of the store ($1 seconds, more flags in $2) and of whole clusters ($3, $4), then every
# planted defect must be found in their histories.
define chaos-runs
	$(BIN)/keelstone-chaos store --own-disks --slow-links --faulty-disks --seed $(SEED) --seconds $(1) $(2) --folder $(CHAOS)
	$(BIN)/keelstone-chaos planted $(CHAOS)
	$(BIN)/keelstone-chaos cluster --own-disks --slow-links --faulty-disks --seed $(SEED) --seconds $(3) $(4) --folder $(CHAOS)-cluster
	$(BIN)/keelstone-chaos planted $(CHAOS)-cluster
	$(BIN)/keelstone-chaos divergence
endef

chaos: build ## real processes under faults that overlap: SEED=n; report in CHAOS=folder (root)
	$(call with-kubectl,$(BIN)/keelstone-chaos story --keelstone $(BIN)/keelstone)
	$(call chaos-runs,180,--overlap,200)

chaos-short: build ## the same with a minute of faults, as in `make test`
	$(call with-kubectl,$(BIN)/keelstone-chaos story --keelstone $(BIN)/keelstone)
	$(call chaos-runs,40,,35,--nemeses kill$(,)kill-all$(,)agent-kill)

chaos-long: build ## seed after seed, for HOURS=n, until something is violated
	$(BIN)/keelstone-chaos long --hours $(HOURS) --seed $(SEED) --folder $(CHAOS)-long

chaos-compare: build ## one schedule of faults on etcd 3.5 and on this store
	$(BIN)/keelstone-chaos compare --etcd $$(.ci/etcd)/etcd --seed $(SEED) --folder $(CHAOS)-compare

bench: install ## compares the store with etcd in one run (QUICK=1: a few minutes); prints figures, asserts none
	@$(ROCKS) && nice cargo build --release -p keelstone-store-bench && \
		nice cargo build --release -p keelstone-store-server --features rocks --example store
	@$(CARGO_TARGET_DIR)/release/keelstone-store-bench --store $(CARGO_TARGET_DIR)/release/examples/store \
		--etcd $$(.ci/etcd)/etcd $(if $(QUICK),--quick,--write docs/performance.md)

perf-check: build ## etcdctl's own checks of performance, on one member: LOADS="s m"
	@.ci/perf-check $(BIN)/keelstone "$$(.ci/etcd)" $(LOADS)

# Another cfg is another build, so it has a target directory of its own; RocksDB is not in it.
MADSIM ?= --seeds 1..300 --twice-first 30 --jobs 2

madsim: install ## the store's core on madsim, which shuffles the order of tasks (MADSIM="--seed 7": one seed), and its tests
	@export RUSTFLAGS="--cfg madsim --cfg tokio_unstable" CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/madsim && \
		cargo run -q -p keelstone-interleavings -- $(MADSIM) && cargo test -q -p keelstone-interleavings

failover: ## how long writes stop when the leader is killed, 20 times; prints figures
	@nice cargo run -p keelstone-store-server --example failover

figures: build ## the other figures, on a cluster of its own (root)
	@$(BIN)/keelstone-chaos bench --keelstone $(BIN)/keelstone

bugs: build ## puts known bugs of other systems back, one at a time, and counts the seeds that find them
	$(SIM) --bugs

fmt: ## formats the code
	cargo fmt --all
