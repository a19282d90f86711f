# Weir: everything a person types. Each target sets up what it needs on Debian or Ubuntu, given a Rust
# toolchain, a C compiler, make and Node 20, and says what it installs.

SHELL := /bin/bash
CARGO ?= cargo
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
BUILT := $(or $(CARGO_TARGET_DIR),target)
UI := ui/web
BROWSER := tests/browser
# Folder of test data that is kept outside the project; tests that need it are skipped without it.
export WEIR_SHARED

.PHONY: help demo ui build test test-rust test-ui test-browser lint bench soak fuzz setup-test setup-fuzz release

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

demo: build ## a small mesh on this machine: watch it, break it, see it heal
	$(BUILT)/debug/weir demo $(DEMO)

build: ui ## the binaries `weir` and `weir-proxy`, for development
	WEIR_UI_STRICT=1 $(CARGO) build --workspace --bins

release: ui ## the binaries, optimised; `weir-proxy` with a profile of its own
	WEIR_UI_STRICT=1 $(CARGO) build --workspace --bins --release
	$(CARGO) build --package weir-proxy-tap --bin weir-proxy --profile proxy

ui: $(UI)/dist/build-info.json ## the web app's bundle

$(UI)/node_modules/.package-lock.json: $(UI)/package-lock.json
	cd $(UI) && npm ci --no-audit --no-fund
	@touch $@

$(UI)/dist/build-info.json: $(UI)/node_modules/.package-lock.json $(shell find $(UI)/build $(UI)/public $(UI)/src $(UI)/index.html $(UI)/package.json $(UI)/tsconfig.json $(UI)/vite.config.ts -type f 2>/dev/null)
	cd $(UI) && npm run build

test: setup-test ui test-rust test-ui test-browser ## every test, the browser's included

test-rust: ui
	WEIR_UI_STRICT=1 $(CARGO) build --workspace --bins
	WEIR_UI_STRICT=1 $(CARGO) test --workspace

test-ui: $(UI)/node_modules/.package-lock.json
	cd $(UI) && npm test

$(BROWSER)/node_modules/.package-lock.json: $(BROWSER)/package-lock.json
	cd $(BROWSER) && PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --no-audit --no-fund
	@touch $@

test-browser: setup-test ui $(BROWSER)/node_modules/.package-lock.json
	WEIR_UI_STRICT=1 $(CARGO) build --workspace --bins
	cd $(BROWSER) && npm test

lint: $(UI)/node_modules/.package-lock.json ## formatting and lints, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	cd $(UI) && npm run check

bench: ## the figures of BENCHMARKS.md, measured here
	$(CARGO) build --workspace --bins --release
	$(CARGO) build --package weir-proxy-tap --bin weir-proxy --profile proxy
	tests/bench.sh
	$(CARGO) bench --workspace --bench ingest

soak: setup-test setup-fuzz build ## what takes long: 500 kills at system calls, 500 crash rounds, a minute of each fuzz target
	CARGO="$(CARGO)" tests/soak.sh

fuzz: setup-fuzz ## each way in fuzzed for FUZZ_SECONDS (60); TARGETS="zipkin import" for those alone
	CARGO="$(CARGO)" tests/fuzz.sh $(TARGETS)

# What npm and cargo cannot bring: the browser, Python's venv, strace, which kills at a chosen system call, iproute2 for
# network namespaces, an exporter to scrape, and what tests run from where it is unpacked: Prometheus and its
# Alertmanager, the DNS server NSD, and nft, with the libraries that not every system has.
setup-test:
	@missing=""; \
	command -v chromium >/dev/null || missing="$$missing chromium"; \
	command -v strace >/dev/null || missing="$$missing strace"; \
	PATH="$$PATH:/usr/sbin" command -v ip >/dev/null || missing="$$missing iproute2"; \
	command -v prometheus-node-exporter >/dev/null || missing="$$missing prometheus-node-exporter"; \
	python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing python3-venv"; \
	if [ -n "$$missing" ]; then \
	  echo "installing with apt-get:$$missing"; \
	  $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing; \
	fi
	@SUDO="$(SUDO)" tests/debian.sh $(abspath $(BUILT))/debian prometheus prometheus-alertmanager \
	  victoria-metrics nsd libfstrm0 libprotobuf-c1 libevent-2.1-7 \
	  nftables libnftables1 libnftnl11 libjansson4 libmnl0 libxtables12 libedit2 libgmp10 libbsd0 libmd0

# libFuzzer is C++ and is compiled from its crate; stable Rust has the coverage counters.
setup-fuzz:
	@if ! command -v c++ >/dev/null; then \
	  echo "installing with apt-get: g++"; \
	  $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq g++; \
	fi
