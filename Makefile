# make run     a durable server on 127.0.0.1:7379, its data in ./data
# make test    every test; fetches what the tests need
# make check   formatting, lint, types, layers, and whether the reference page is up to date
# make format  puts the code into shape
# make fuzz    the property tests, with many more examples
# make sim     200 seeds of the simulator: whole clusters in virtual time, with faults
# make compat  Redis clients and lock libraries from PyPI and npm; writes docs/compatibility.md
# make bench   this server beside Redis with appendfsync always
# make bench-cluster    the same with three nodes, the leader under load
# make bench-failover   how long nobody gets a lock: leader killed, stopped, handing over
# make bench-stability  no election without a reason under full load
# make bench-waiting    clients in line, locks that end at once, subscribers: what they cost
# make scale   memory, stalls, restart and idle connections at scale
#
# ARGS="..." is passed on, as in: make test ARGS="tests/resp -k inline"
# Each makes .venv when it is missing and updates it when pyproject.toml has changed.

.PHONY: run test check format fuzz sim compat bench bench-cluster bench-failover bench-stability bench-waiting scale
.DEFAULT_GOAL := run

BIN := .venv/bin
RUN_READY := .venv/.ready-to-run
DEV_READY := .venv/.ready-to-develop

$(RUN_READY): pyproject.toml
	@scripts/make-venv
	@touch $@

$(DEV_READY): pyproject.toml
	@scripts/make-venv dev
	@touch $@ $(RUN_READY)

run: $(RUN_READY)
	@exec $(BIN)/resplock serve --host 127.0.0.1 --port 7379 --data-dir data $(ARGS)

test: $(DEV_READY)
	@scripts/fetch-redis || echo "make: the tests that need these tools will fail and say so"
	@command -v strace >/dev/null || scripts/apt-install strace || true
	$(BIN)/python -m pytest -n auto $(ARGS)

check: $(DEV_READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m resplock.resp.reference --check docs/reference.md

format: $(DEV_READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

fuzz: $(DEV_READY)
	$(BIN)/python -m pytest -n auto -m hypothesis --hypothesis-profile thorough --timeout 3600 $(ARGS)

sim: $(DEV_READY)
	$(BIN)/python -m tests.sim --seeds 200 $(ARGS)

compat: $(DEV_READY)
	@scripts/fetch-redis
	$(BIN)/python -m tests.compat $(ARGS)

bench: $(RUN_READY)
	@scripts/fetch-redis
	@scripts/fetch-gcc
	$(BIN)/python -m bench.compare $(ARGS)

bench-cluster: $(RUN_READY)
	@scripts/fetch-redis
	@scripts/fetch-gcc
	$(BIN)/python -m bench.compare --nodes 3 $(ARGS)

bench-failover: $(RUN_READY)
	$(BIN)/python -m bench.failover $(ARGS)

bench-stability: $(RUN_READY)
	@scripts/fetch-gcc
	$(BIN)/python -m bench.stability $(ARGS)

bench-waiting: $(RUN_READY)
	@scripts/fetch-gcc
	$(BIN)/python -m bench.waiting $(ARGS)

scale: $(RUN_READY)
	$(BIN)/python -m bench.scale $(ARGS)
