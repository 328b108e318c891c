# Two commands do everything on a machine with Python 3.11: `make serve` and `make test`.
PYTHON ?= python3
HOST   ?= 127.0.0.1
PORT   ?= 8000
MINUTES ?= 10
BIN    := .venv/bin

.PHONY: serve test check fix train bench bench-peers bench-spread bench-streaming bench-training bench-reliability bench-observability soak quality quality-full openapi fuzz audit sbom lock docker-test

serve: .venv/ready  ## serve the bundles in models/
	DIABOLO_HOST=$(HOST) DIABOLO_PORT=$(PORT) exec $(BIN)/diabolo serve

test: .venv/ready  ## the whole suite; prints its skips and why
	$(BIN)/pytest

check: .venv/ready  ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fix: .venv/ready  ## what can be mended by machine
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

train: .venv/ready  ## a small variational bundle from scikit-learn's digits, offline
	$(BIN)/diabolo train digits-vae

bench: .venv/ready  ## five minutes: the service between a FastAPI app as one writes it and the limit of its HTTP stack, and where its time goes
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.peers typed_fastapi --rounds 3 --print

bench-spread: .venv/ready  ## how evenly the workers share 4, 16 and 64 connections
	$(BIN)/python -m benchmarks.spread

bench-peers: .venv/quality  ## docs/performance.md: next to other servers, each in an environment of its own; PEERS="litserve triton" for some
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.peers $(PEERS)

bench-streaming: .venv/ready  ## a million rows through one connection, and the service's memory meanwhile
	$(BIN)/python -m benchmarks.streaming --write

bench-reliability: .venv/ready  ## docs/reliability.md: swaps, overload, killed workers, idle connections; ROWS="swaps kills" for some
	OMP_NUM_THREADS=1 exec $(BIN)/python -m benchmarks.reliability $(ROWS)

bench-observability: .venv/ready  ## what metrics, log lines and traces cost; four minutes; writes the end of docs/observability.md
	OMP_NUM_THREADS=1 exec $(BIN)/python -m benchmarks.observability

soak: .venv/ready  ## all of that at once, every answer checked; MINUTES=60 for an hour
	OMP_NUM_THREADS=1 exec $(BIN)/python -m benchmarks.reliability soak --minutes $(MINUTES)

bench-training: .venv/ready  ## an epoch by our loop against the textbook's
	$(BIN)/python -m benchmarks.training

quality: .venv/quality  ## docs/quality.md; ROWS="pca-ladder denoising" for some rows only
	$(BIN)/python -m benchmarks.quality $(ROWS)

quality-full: .venv/quality  ## the same with the complete tables
	$(BIN)/python -m benchmarks.quality --full $(ROWS)

openapi: .venv/ready  ## write docs/openapi.json anew
	$(BIN)/diabolo openapi > docs/openapi.json

CASES ?= 5000
fuzz: .venv/ready  ## hostile bundles, programs, bodies and bytes, CASES new ones for each property, a tenth for each operation; the suite tries a few
	FUZZ_CASES=$(CASES) $(BIN)/pytest -o timeout=0 tests/fuzz

docker-test: .venv/ready  ## the images and docker-compose.yml on a real engine: builds, scales, kills, trains, restarts; TORCH_INDEX as for the Dockerfile
	$(BIN)/python -m tests.docker

audit: .venv/audit  ## known vulnerabilities of what the locks name, and the images' torch; needs the network for their list
	@mkdir -p build && sed -n 's/^ARG TORCH_VERSION=\(.\)/torch==\1/p' Dockerfile > build/torch.txt
	@for lock in requirements/service.txt requirements/service-onnx.txt requirements/dev.txt build/torch.txt; do echo "$$lock:"; \
	  $(BIN)/pip-audit --strict --progress-spinner off --disable-pip --no-deps -r $$lock || failed=1; done; \
	[ -z "$$failed" ] || { echo "Not passed: a package above is vulnerable, or could not be audited from here." >&2; exit 1; }

sbom: .venv/audit  ## build/sbom-*.cdx.json: what an installation of each lock consists of, as CycloneDX
	mkdir -p build
	for lock in service service-onnx; do $(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible \
	  --of JSON -o build/sbom-$$lock.cdx.json requirements/$$lock.txt || exit 1; done

# A changed lock gives a changed environment. The marker is written last, so an interrupted installation is done again.
.venv/ready: requirements/dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "Diabolo needs Python 3.11 to 3.13; name one with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade-strategy only-if-needed -r requirements/dev.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

.venv/quality: .venv/ready requirements/quality.txt
	$(BIN)/pip install --quiet -r requirements/quality.txt
	touch $@

.venv/audit: .venv/ready requirements/audit.txt
	$(BIN)/pip install --quiet -r requirements/audit.txt
	touch $@

# Exact versions, no hosts: pip's own configuration says where packages come from.
PIP_COMPILE = CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host
lock:  ## resolve anew after a change of pyproject.toml
	$(PIP_COMPILE) --upgrade --extra service --extra torch --extra training --extra dev -o requirements/dev.txt pyproject.toml
	$(PIP_COMPILE) --upgrade -c requirements/dev.txt --extra service -o requirements/service.txt pyproject.toml requirements/torch-needs.in
	$(PIP_COMPILE) --upgrade -c requirements/dev.txt --extra service --extra onnx -o requirements/service-onnx.txt pyproject.toml
	$(PIP_COMPILE) --upgrade --no-annotate -c requirements/dev.txt --extra service --extra training -o requirements/training.txt pyproject.toml requirements/torch-needs.in
	sed -i -E '/^(cuda|nvidia|torch|torchvision|triton)(-[a-z0-9-]+)?==/d' requirements/training.txt  # as above: build arguments
	$(PIP_COMPILE) --upgrade -c requirements/dev.txt --extra audit -o requirements/audit.txt pyproject.toml
	$(PIP_COMPILE) --upgrade -c requirements/dev.txt --extra quality -o requirements/quality.txt pyproject.toml
