# Frond: make targets. `make help` lists them.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VERSION     := 0.1.0
STATICCHECK := v0.8.2
SEEDS       ?= 100
ARCHS       ?= amd64 arm64
ARGS        ?=

export CGO_ENABLED := 1
export PATH := $(PATH):/usr/local/go/bin
GOFLAGS_BUILD := -trimpath -ldflags "-s -w -X main.version=$(VERSION)"

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

# What the build needs is looked for once; bin/.deps remembers it.
bin/.deps: scripts/deps.sh go.mod
	@mkdir -p bin
	@scripts/deps.sh
	@touch $@

.PHONY: build
build: bin/.deps ## install what is missing (as root, on Debian) and build bin/frond
	@go build $(GOFLAGS_BUILD) -o bin/frond ./cmd/frond

.PHONY: quickstart
quickstart: build ## build, start 4 brokers, run a parameter sweep and show its results
	@go build -trimpath -o bin/lyapunov ./examples/lyapunov
	@scripts/quickstart.sh

# First the packages, then whole instances: scripts, kill -9, seeds of simulation. FROND_FULL adds what takes minutes.
# Tests have sockets in the directory for temporary files, and the paths of sockets have a limit.
test: export TMPDIR := $(shell d=$${TMPDIR:-/tmp}; [ "$$(printf %s "$$d" | wc -c)" -le 30 ] && echo "$$d" || echo /tmp)

.PHONY: test
test: build check ## all checks and tests
	@scripts/testdeps.sh
	go test -timeout 10m $$(go list ./... | grep -v /test/)
	FROND_FULL=1 go test -count=1 -p 1 -timeout 40m ./test/...

.PHONY: test-slurm
test-slurm: build ## the tests in allocations of a real Slurm, set up on this host (as root, on Debian)
	@scripts/testdeps.sh
	go test -count=1 -timeout 20m ./test/slurm -v

.PHONY: bench-slurm
bench-slurm: build ## measure it beside Slurm's own ways to run many tasks (as root, on Debian)
	@scripts/testdeps.sh
	FROND_BENCH=1 go test -count=1 -timeout 10m ./test/slurm -run TestBench -v

bin/tools/staticcheck-$(STATICCHECK):
	@mkdir -p bin/tools
	@GOBIN=$(CURDIR)/bin/tools go install honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK)
	@mv bin/tools/staticcheck $@

.PHONY: check
check: bin/.deps bin/tools/staticcheck-$(STATICCHECK) ## gofmt, vet, staticcheck and the rules of the house
	@files=$$(gofmt -l $$(git ls-files '*.go' 2>/dev/null || find . -name '*.go')); \
	  if [ -n "$$files" ]; then echo "gofmt -w is needed for:"; echo "$$files"; exit 1; fi
	go vet ./...
	bin/tools/staticcheck-$(STATICCHECK) ./...
	go test ./test/arch

.PHONY: man
man: build ## write manual pages to bin/man/man1 and completions for bash, zsh and fish to bin/completion
	@rm -rf bin/man bin/completion && mkdir -p bin/completion
	@bin/frond man bin/man/man1
	@for sh in bash zsh fish; do bin/frond completion $$sh >bin/completion/frond.$$sh; done

.PHONY: bench
bench: build ## measure it on this machine against bare processes (ARGS=… are passed on)
	go run ./test/bench $(ARGS)

.PHONY: bench-split
bench-split: build ## measure one queue over trees of branches, and compute it for 100,000 nodes (ARGS=… are passed on)
	go run ./test/bench -only split,children $(ARGS)

.PHONY: million
million: ## run 1,000,000 mock elements over 4x4 branches and find each once in the stores, the top's leader below 150 MB
	FROND_MILLION=1 go test ./test/million -count=1 -timeout 30m -v

.PHONY: sim
sim: bin/.deps ## simulate whole instances with faults: SEEDS=n of them from SEED=n on
	SEEDS=$(SEEDS) GOGC=300 GOMEMLIMIT=8GiB go test ./test/sim -run TestSeeds -count=1 -timeout 60m -v

.PHONY: sim-trees
sim-trees: bin/.deps ## simulate trees of branches with faults: SEEDS=n of them from SEED=n on
	TREES=$(SEEDS) GOGC=300 go test ./test/sim -run TestTrees -count=1 -timeout 60m -v

# VERSION is in the binary and in the names of the files. Compiler and sources are kept in dist/cache.
.PHONY: dist
dist: man ## release tarballs in dist/, for ARCHS="amd64 arm64": one binary that needs glibc 2.17 and nothing else
	VERSION=$(VERSION) scripts/dist/dist.sh $(ARCHS)

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist
