# One word a job. `make` alone lists them.

CARGO ?= cargo
TOOLS := target/test-tools

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: build
build: ## Release binaries in target/release
	$(CARGO) build --release --bins -p taffrail-agent -p taffrail-collector -p taffrail-query

.PHONY: demo
demo: build ## Build, then run collector, agent and a demo workload until Ctrl-C (DATA=folder)
	target/release/taffrail up --demo $(if $(DATA),--data-dir $(DATA))

.PHONY: test
test: test-tools ## Every test, unit to end-to-end
	$(CARGO) build --workspace --all-targets
	$(CARGO) test --workspace
	cd sim/cluster && python3 -m unittest tests

.PHONY: test-tools
test-tools: ## Fetch what the tests talk to: the OpenTelemetry SDK for Python, Prometheus
	sim/tools/prepare $(TOOLS)

.PHONY: check
check: fmt-check clippy deny docs ## All static checks

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt --all

.PHONY: fmt-check
fmt-check: ## Fail when the code is not formatted
	$(CARGO) fmt --all --check

.PHONY: clippy
clippy: ## Lints, warnings are errors
	$(CARGO) clippy --workspace --all-targets -- -D warnings

.PHONY: deny
deny: cargo-deny ## Licences, sources and bans of dependencies (installs cargo-deny if it is missing)
	cargo-deny --workspace check licenses bans sources

.PHONY: cargo-deny
cargo-deny:
	@command -v cargo-deny >/dev/null || $(CARGO) install cargo-deny@0.20.2 --locked \
	  --config profile.release.opt-level=0 --config profile.release.lto=false

.PHONY: advisories
advisories: cargo-deny ## Security advisories of dependencies (needs the RustSec database from the network)
	cargo-deny --workspace check advisories

.PHONY: docs
docs: ## API documentation, warnings are errors
	# Links to private items are good here: they are documented too.
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --workspace --no-deps --document-private-items

.PHONY: bench
bench: ## Agent and collector over a generated corpus: MB per CPU second, memory, disk
	$(CARGO) build --release --bins --workspace
	target/release/taffrail-bench

.PHONY: bench-logs
bench-logs: ## The log store alone: 1 GB in 500 streams, MB per CPU second, disk, queries (ARGS="256 200")
	$(CARGO) run --release -p taffrail-collector --example logstore -- $(or $(ARGS),1002 500)

.PHONY: bench-agent
bench-agent: ## The agent alone: throughput, idle memory, steady rate, burst and churn (ARGS=...)
	$(CARGO) build --release --bins -p taffrail-agent -p taffrail-sim
	target/release/taffrail-bench-agent $(ARGS)

.PHONY: cluster-up
cluster-up: ## A real Kubernetes cluster of two nodes on this machine (root; see sim/cluster/README.md)
	sim/cluster/cluster up

.PHONY: cluster-down
cluster-down: ## End that cluster and leave nothing of it
	sim/cluster/cluster down

.PHONY: test-cluster
test-cluster: ## Taffrail on that cluster (brought up if it does not run): logs, autoscaling, rights
	$(CARGO) build --bins
	sim/cluster/test target/debug
