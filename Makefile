# Telemetry Hub. `make help` lists the targets; README.md says what to do with what they make.

GO ?= go
SHELL := /bin/bash
.DEFAULT_GOAL := help

# One binary each, without C: it runs on any machine of the same system and processor.
BINARIES := bin/hub bin/hubctl bin/device-sim

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: build ## build all, run hub and simulator with real readings (DATA=dir LISTEN=host:port MQTT_LISTEN=host:port|off)
	@scripts/run.sh

.PHONY: build
build: web ## the dashboard, bin/hub bin/hubctl bin/device-sim
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o bin/ $(BINARIES:bin/%=./cmd/%)

.PHONY: web
web: ## the dashboard (needs Node 20.19 or 22.12; without it the hub is built without a dashboard)
	@scripts/build-web.sh

.PHONY: test
test: build ## all tests; says at the end what was left out and how to get it (CI=true: that is a failure)
	@GO="$(GO)" scripts/test.sh

.PHONY: bench
bench: build ## the benchmarks, 3 runs, some 14 minutes; figures as JSON lines (docs/performance.md)
	@$(GO) run ./bench

.PHONY: bench-quick
bench-quick: build ## the same, 1 short run, under 3 minutes
	@$(GO) run ./bench -quick

.PHONY: bench-long
bench-long: build ## the same, 5 runs
	@$(GO) run ./bench -runs 5

.PHONY: torture
torture: build ## the long form of the faults, hours; one line a fault (docs/reliability.md; ARGS="-only FAULT -rounds N")
	@$(GO) run ./torture -bin bin $(ARGS)

.PHONY: torture-quick
torture-quick: build ## the same in some six minutes; each fault is in make test as well
	@$(GO) run ./torture -quick -bin bin $(ARGS)

.PHONY: fuzz
fuzz: ## fuzz each decoder (FUZZTIME=5s; the long run has FUZZTIME=10m, some four hours)
	@GO="$(GO)" FUZZTIME="$(FUZZTIME)" scripts/fuzz.sh

.PHONY: lint
lint: ## golangci-lint, or gofmt and vet without it
	@GO="$(GO)" scripts/lint.sh

.PHONY: clean
clean: ## remove what was built (not the data)
	rm -rf bin web/node_modules
	find web/dist -mindepth 1 ! -name .gitkeep -delete
