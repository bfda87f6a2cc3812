# Every target does its own set-up. Needs make, Python >= 3.11 and Rust >= 1.85 with cargo; some name Go as well.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CARGO := cargo
MANIFEST := rust/Cargo.toml
PURE_CRATES := -p keystead-locked -p keystead-core -p keystead-etcd
RUST_SOURCES := $(shell find rust -name target -prune -o \( -name '*.rs' -o -name 'Cargo.*' \) -print)
PYTEST_FLAGS ?=
# Most tests wait for a server or a process. A file of tests stays in one worker, with the servers that it starts.
JOBS ?= 2
EXTRAS ?= all

.DEFAULT_GOAL := help

.PHONY: help ## List the targets
help:
	@grep -E '^.PHONY: [a-z0-9-]+ +##' $(MAKEFILE_LIST) | sed 's/.PHONY: //' | awk -F ' *## *' '{printf "  %-10s %s\n", $$1, $$2}'

.PHONY: demo ## Serve with a throw-away key, wrap and unwrap a seed through the socket, and explain it
demo: $(VENV)/built
	@examples/demo.sh $(BIN)/keystead

.PHONY: image ## Build the container image with the providers of EXTRAS: aws, gcp, vault or all
image:
	docker build -f docker/Dockerfile --build-arg EXTRAS=$(EXTRAS) $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) \
	  -t keystead:$(EXTRAS) .

.PHONY: compose ## Try the image in front of a real OpenBao, with docker compose
compose:
	docker compose -f docker/compose.yaml up --build --exit-code-from demo; code=$$?; \
	  test $$code = 0 || docker compose -f docker/compose.yaml logs prepare openbao init; \
	  docker compose -f docker/compose.yaml --profile '*' down --volumes; exit $$code

.PHONY: test ## Run every test that needs no cluster
test: $(VENV)/built
	$(CARGO) test --release --locked --manifest-path $(MANIFEST) $(PURE_CRATES)
	$(BIN)/pytest -m 'not e2e and not slow' -n $(JOBS) --dist loadfile $(PYTEST_FLAGS)

.PHONY: lint ## Check format, types, layers and lints of Python and Rust
lint: $(VENV)/built
	$(BIN)/ruff format --check .
	$(BIN)/ruff check --output-format concise .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/stubtest --ignore-missing-stub --allowlist tests/stubtest-allowlist.txt keystead._core
	$(CARGO) fmt --all --check --manifest-path $(MANIFEST)
	$(CARGO) clippy --release --locked --manifest-path $(MANIFEST) --workspace --all-targets -- -D warnings

.PHONY: e2e ## Build kube-apiserver, kubectl and etcd once (needs Go), then run the scenarios on them
e2e: $(VENV)/built
	tests/e2e/build/build.sh
	KEYSTEAD_E2E=required $(BIN)/pytest tests/e2e -m e2e -v $(PYTEST_FLAGS)

.PHONY: soak ## An hour of mixed load on a real kube-apiserver, or SOAK_MINUTES
soak: $(VENV)/built
	tests/e2e/build/build.sh
	KEYSTEAD_E2E=required KEYSTEAD_SOAK_MINUTES=$(or $(SOAK_MINUTES),60) \
	  $(BIN)/pytest tests/e2e/test_20_mixed_load.py -m e2e -v $(PYTEST_FLAGS)

.PHONY: faults ## Have every fault of every remote KMS, measure what it costs, and write docs/faults.md
faults: $(VENV)/built
	PYTHONPATH=tests $(BIN)/python -m faults

.PHONY: reference ## Write the pages that are made from the program: docs/reference, docs/operate/doctor.md
reference: $(VENV)/built
	PYTHONPATH=tests $(BIN)/python -m reference

.PHONY: monitoring ## Build promtool and Prometheus once (needs Go), then try each alert and each panel on them
monitoring: $(VENV)/built
	tests/monitoring/build.sh
	$(BIN)/pytest tests/monitoring $(PYTEST_FLAGS)

.PHONY: bench ## Measure against an echo server in the same run, as ratios (needs Go)
bench: $(VENV)/built
	$(BIN)/python -m bench

.PHONY: fuzz ## Fuzz each parser for FUZZ_SECONDS, 60 by default
fuzz:
	rust/fuzz/run.sh $(or $(FUZZ_SECONDS),60)

.PHONY: audit ## Check licences and sources of the Rust dependencies with cargo-deny
audit:
	command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	cd rust && cargo deny check bans licenses sources

.PHONY: proto ## Generate the Python messages of proto/ again
proto:
	$(PYTHON) -m venv build/proto
	build/proto/bin/pip install -q -r requirements/proto.txt
	build/proto/bin/python -m grpc_tools.protoc -Ikeystead/_proto=proto --python_out=python --pyi_out=python \
	  keystead/_proto/v2/api.proto keystead/_proto/v1beta1/api.proto \
	  keystead/_proto/etcd/encrypted_object.proto keystead/_proto/etcd/kv.proto keystead/_proto/etcd/objects.proto

.PHONY: pin ## Resolve the requirements again and pin them with hashes
pin:
	$(PYTHON) -m venv build/pin
	build/pin/bin/pip install -q 'uv>=0.9'
	set -e; pin() { name=$$1; shift; build/pin/bin/uv pip compile "$$@" --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-header --quiet --upgrade -o requirements/$$name.txt; }; \
	pin dev pyproject.toml --group dev; \
	pin backends pyproject.toml --group backends; \
	pin build --group build; \
	pin run pyproject.toml; \
	pin run-all pyproject.toml --extra aws --extra gcp --extra vault; \
	for extra in aws gcp vault; do pin run-$$extra pyproject.toml --extra $$extra -c requirements/run-all.txt; done

.PHONY: clean ## Remove the virtual environment, builds and caches
clean:
	rm -rf $(VENV) build dist rust/target .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find python tests -name __pycache__ -prune -exec rm -rf {} +
	rm -f python/keystead/_core*.so

$(VENV)/installed: requirements/dev.txt requirements/backends.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Keystead needs Python 3.11 or newer")'
	@command -v $(CARGO) >/dev/null || { echo "Keystead needs Rust: cargo is not on the PATH" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes \
	  -r requirements/dev.txt -r requirements/backends.txt
	touch $@

$(VENV)/built: $(VENV)/installed pyproject.toml $(RUST_SOURCES)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@
