# nodelet: build, run, test. `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

GO          ?= go
BIN         := $(CURDIR)/bin
VERSION     ?= $(shell git -c safe.directory="*" describe --tags --always --dirty 2>/dev/null || echo unknown)
TAGS        := no_btrfs,no_devmapper,no_zfs,osusergo,netgo
KUBE        := v1.36.3
DATA_DIR    ?= /var/lib/nodelet
RUN_DIR     ?= /run/nodelet
# Each module builds by itself, so that one's versions never leak into the other.
export GOWORK := off
# One set of flags for builds, tests and linters, so that nothing is compiled twice.
export CGO_ENABLED := 0
# Without VCS stamps: under sudo git distrusts a clone that somebody else owns.
export GOFLAGS := -trimpath -buildvcs=false
# So that `sudo make` finds a Go that is only on the caller's PATH.
export PATH := $(PATH):/usr/local/go/bin:/usr/lib/go/bin

# A tag can be added right behind it: $(GOBUILD),more.
GOBUILD := $(GO) build -tags $(TAGS)
LDFLAGS := -s -w -X nodelet/internal/version.Version=$(VERSION)
CP_LDFLAGS := -s -w -X nodelet/controlplane/serve.Version=$(VERSION) \
	-X k8s.io/component-base/version.gitVersion=$(KUBE) -X k8s.io/component-base/version.gitMajor=1 \
	-X k8s.io/component-base/version.gitMinor=36 -X k8s.io/client-go/pkg/version.gitVersion=$(KUBE)

##@ Use

.PHONY: up
up: deps build images ## Install what is missing, build, start a one-machine cluster and run the demo (root)
	@$(BIN)/nodelet up --data-dir $(DATA_DIR) --run-dir $(RUN_DIR)
	@examples/hello/run.sh $(BIN)/nodelet $(DATA_DIR) $(RUN_DIR)

.PHONY: down
down: ## Stop the cluster and everything it runs; data stays (root)
	@$(BIN)/nodelet down --data-dir $(DATA_DIR) --run-dir $(RUN_DIR)

.PHONY: reset
reset: ## Stop the cluster, remove every trace of it and prove that nothing is left (root)
	@$(BIN)/nodelet reset --yes --data-dir $(DATA_DIR) --run-dir $(RUN_DIR)
	@$(BIN)/nodelet reset --verify --data-dir $(DATA_DIR) --run-dir $(RUN_DIR)

.PHONY: deps
deps: ## Install the system packages nodelet needs (Debian: apt; elsewhere: says what to install)
	@hack/deps.sh

.PHONY: lab
lab: build images ## Start a lab of NODES=2 nodes on this machine, each in its own namespaces (root)
	@$(GO) run -tags $(TAGS) ./test/netlab up --nodes $(or $(NODES),2)

.PHONY: lab-shell
lab-shell: ## Run CMD=bash inside node NODE=1 of the lab (root)
	@$(GO) run -tags $(TAGS) ./test/netlab exec --id $(or $(LAB),lab) $(or $(NODE),1) $(or $(CMD),bash)

.PHONY: lab-down
lab-down: ## Stop the lab and remove every trace of it (root)
	@$(GO) run -tags $(TAGS) ./test/netlab down --id $(or $(LAB),lab)

##@ Build

.PHONY: build
build: $(BIN)/nodelet $(BIN)/nodelet-cni $(BIN)/containerd-shim-runc-v2 $(BIN)/nodelet-controlplane ## Build all programs into bin/

# Go knows best what is out of date, so these always ask it.
.PHONY: $(BIN)/nodelet $(BIN)/nodelet-cni $(BIN)/containerd-shim-runc-v2 $(BIN)/nodelet-controlplane
$(BIN)/nodelet:
	@echo "build nodelet"; $(GOBUILD) -ldflags "$(LDFLAGS)" -o $@ ./cmd/nodelet
$(BIN)/nodelet-cni:
	@echo "build nodelet-cni"; $(GOBUILD) -ldflags "$(LDFLAGS)" -o $@ ./cmd/nodelet-cni
$(BIN)/containerd-shim-runc-v2:
	@echo "build containerd-shim-runc-v2"; $(GOBUILD),no_grpc -ldflags "-s -w" -o $@ github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2
$(BIN)/nodelet-controlplane:
	@echo "build nodelet-controlplane (minutes on the first build)"; cd controlplane && $(GO) build -ldflags "$(CP_LDFLAGS)" -o $@ ./cmd/nodelet-controlplane

.PHONY: images
images: ## Build the project's own container images as OCI archives into bin/images/
	@$(GO) run -tags $(TAGS) ./test/images -out $(BIN)/images

.PHONY: image
image: build ## Build the container image of nodelet (deploy/daemonset.yaml) as an OCI archive into bin/images/
	@$(GO) run -tags $(TAGS) ./test/images -out $(BIN)/images nodelet

.PHONY: generate
generate: ## Regenerate committed artefacts
	$(GO) generate ./...

.PHONY: generate-check
generate-check: ## Compile the eBPF programs anew and compare with what is committed (clang 14, libbpf-dev)
	@hack/deps.sh bpf
	@hack/generate-check.sh

##@ Check

.PHONY: test
test: build images ## Run all tests; as root also those of the kernel, the runtime and the whole (README's test command)
	@hack/test.sh

.PHONY: test-race
test-race: ## Run the unit tests under the race detector
	CGO_ENABLED=1 $(GO) test -race -tags $(TAGS) $$($(GO) list -tags $(TAGS) ./... | grep -v /test/)

.PHONY: test-vm
test-vm: ## Run the kernel's tests in virtual machines: KERNELS=5.15,6.1,6.12 RUN=package-regexp TEST=test-regexp (root)
	@hack/deps.sh vm
	@$(GO) run -tags $(TAGS) ./test/vm -kernels $(or $(KERNELS),5.15,6.1,6.12) -run '$(or $(RUN),.)' -test '$(TEST)'

.PHONY: e2e
e2e: build images ## Run the end-to-end scripts only (root)
	$(GO) test -tags $(TAGS) -count=1 -v ./test/e2e/...

.PHONY: soak
soak: build images ## Kill the daemon KILLS=100 times under 30 pods: no container restarts, Ready never flips (root)
	NODELET_SOAK_KILLS=$(or $(KILLS),100) $(GO) test -tags $(TAGS) -count=1 -v -timeout 60m -run TestRestartsAreInvisible ./test/e2e

.PHONY: e2e-daemonset
e2e-daemonset: image images ## Run deploy/daemonset.yaml beside upstream's kubelet and Debian's containerd (root)
	@hack/deps.sh daemonset
	@mkdir -p .cache/$(KUBE) && cd controlplane && $(GO) build -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$(KUBE)" \
		-o ../.cache/$(KUBE)/kubelet k8s.io/kubernetes/cmd/kubelet
	NODELET_KUBELET=$(CURDIR)/.cache/$(KUBE)/kubelet $(GO) test -tags $(TAGS) -count=1 -v -timeout 20m ./test/daemonset

.PHONY: lint
lint: ## Run the linters and the checks of structure
	@hack/lint.sh

.PHONY: fmt
fmt: ## Format all Go code
	gofmt -w $$(git ls-files '*.go')

.PHONY: golden
golden: ## Rewrite golden files; look at the difference before you commit it
	$(GO) test -tags $(TAGS) $$($(GO) list -tags $(TAGS) \
		-f '{{range .TestImports}}{{if eq . "nodelet/internal/golden"}}{{$$.ImportPath}}{{end}}{{end}}{{range .XTestImports}}{{if eq . "nodelet/internal/golden"}}{{$$.ImportPath}}{{end}}{{end}}' \
		./...) -update

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME=20s
	@hack/fuzz.sh $(or $(FUZZTIME),20s)

BENCH := bench/.cache/nodelet-bench

.PHONY: $(BENCH)
$(BENCH):
	@cd bench && $(GO) build -o .cache/nodelet-bench .

.PHONY: bench
bench: build images $(BENCH) ## Measure beside upstream: ONLY=proxy,dns,agent,cni,boot,idle,api RUNS=2 QUICK=1 (root)
	@hack/deps.sh bench
	@$(BENCH) run $(if $(ONLY),-only $(ONLY)) $(if $(RUNS),-runs $(RUNS)) $(if $(QUICK),-quick) $(BENCHFLAGS)

.PHONY: bench-compare
bench-compare: $(BENCH) ## Show the change of bin/bench.json against a saved run: BASE=file
	@$(BENCH) compare $(BASE)

.PHONY: bench-doc
bench-doc: $(BENCH) ## Write the tables of bin/bench.json into docs/performance.md
	@$(BENCH) doc $(BIN)/bench.json docs/performance.md

.PHONY: bench-gate
bench-gate: ## Run the planners' micro benchmarks, fail where one allocates more than the saved run (UPDATE=1 saves, ALL=1 large sizes)
	@cd bench && $(GO) run ./gate $(if $(UPDATE),-update) $(if $(ALL),-all)

.PHONY: differential
differential: $(BIN)/nodelet ## Compare DNS answers with CoreDNS v1.15 on the same objects (root)
	cd bench && $(GO) test ./dns -run Differential -count=1 -v

.PHONY: conformance
conformance: build images ## Run upstream's e2e.test: FOCUS=regexp SKIP=regexp NODES=1|2 (root)
	@test/conformance/run.sh

# One of each: lifecycle, volumes, projected updates, Services, DNS, exec, Jobs.
SMOKE := Pods should be submitted and removed|Secrets should be consumable from pods in volume \[NodeConf|Services should serve a basic endpoint from pods|DNS should provide DNS for services|KubeletManagedEtcHosts should test|Job should run a job to completion when tasks succeed

.PHONY: conformance-smoke
conformance-smoke: build images ## Run a few specs of upstream's suite, as CI does (root)
	@FOCUS='$(SMOKE)' SKIP=Serial test/conformance/run.sh

.PHONY: skew
skew: build images $(BENCH) ## Run specs with a node beside upstream's control planes, one version before to one after (root)
	@$(GOBUILD) -o bench/.cache/nodelet-conformance ./test/conformance
	@bench/.cache/nodelet-conformance -prepare
	@$(BENCH) run -only skew -runs 1 -json $(BIN)/skew.json $(BENCHFLAGS)

.PHONY: check
check: lint test conformance-smoke ## What CI runs

.PHONY: clean
clean: ## Remove what was built
	rm -rf $(BIN) .cache

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
