# `make` alone lists what there is. Nothing here needs configuring; packages that are missing are installed.

SWIFT ?= swift
# swiftpm links the standard library statically, so that the product runs where no Swift is installed.
RELEASE_FLAGS = -c release --static-swift-stdlib --product balena-supervisor
BINARY = .build/release/balena-supervisor
STRIPPED = .build/stripped/balena-supervisor
LINTED = Package.swift Sources Tests Benchmarks Fuzz

.DEFAULT_GOAL = help
.PHONY: help run build test test-qemu test-nspawn torture lint format cloud bench fuzz package clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Build and start the agent with the example; Ctrl-C ends it
	@scripts/install-dependencies build run
	@$(MAKE) --no-print-directory build
	@scripts/run-example $(STRIPPED)

build: ## Build the release binary
	@scripts/install-dependencies build
	$(SWIFT) build $(RELEASE_FLAGS)
	@mkdir -p $(dir $(STRIPPED))
	@strip -o $(STRIPPED) $(BINARY)
	@ls -lh $(STRIPPED) | awk '{print "built $(STRIPPED), " $$5}'

test: ## Run every test, on a private engine, registries and journal, and on an emulated small board
	@scripts/install-dependencies build run test qemu
	@scripts/python-tools
	@scripts/run-tests

test-qemu: ## Run the agent on an emulated small board with real LEDs
	@scripts/install-dependencies build qemu
	@$(MAKE) --no-print-directory build
	@scripts/test-qemu $(STRIPPED)

test-nspawn: ## Run the agent on a whole device in a container: systemd, logind, D-Bus, journald, engine
	@scripts/install-dependencies build nspawn
	@$(MAKE) --no-print-directory build
	@scripts/test-nspawn $(STRIPPED)

torture: ## A hundred random walks of targets, with kills, restarts and locks (WALKS=N SEED=N)
	@scripts/install-dependencies build run test
	@TORTURE_WALKS=$(or $(WALKS),100) TORTURE_SEED=$(or $(SEED),1) INTEGRATION_OPTIONS="-k Torture" \
	  scripts/run-tests integration

cloud: ## A cloud for one desk: watch a device, publish releases, try faults (OPTIONS=--help)
	@scripts/install-dependencies cloud
	@python3 -B Tests/CloudStandIn $(OPTIONS)

lint: ## Check the format of the sources
	$(SWIFT) format lint --strict --recursive $(wildcard $(LINTED))
	@for file in scripts/* .ci/run packaging/debian/*inst packaging/debian/*rm; do \
	  [ ! -f $$file ] || bash -n $$file || exit 1; done

format: ## Format the sources
	$(SWIFT) format --in-place --recursive $(wildcard $(LINTED))

bench: ## Measure mapping, request latency and footprint; results in Benchmarks/results
	@scripts/install-dependencies build run bench
	@$(MAKE) --no-print-directory build
	@scripts/benchmark-mapping
	@scripts/run-benchmarks $(STRIPPED)

fuzz: ## Fuzz what reads bytes from outside; FUZZ_SECONDS for each target (60)
	@scripts/install-dependencies build
	@scripts/fuzz

package: ## Build a Debian package
	@scripts/install-dependencies build package
	@$(MAKE) --no-print-directory build
	@packaging/build-deb $(STRIPPED)

clean: ## Remove what was built and what `make run` and `make test` left
	@[ ! -d .run/engine ] || scripts/engine stop .run/engine
	rm -rf .build .run .test Benchmarks/.build Benchmarks/results *.deb
