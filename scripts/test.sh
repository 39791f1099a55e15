#!/usr/bin/env bash
# Lint, types and tests, in the project's own environment.
# Arguments go to pytest (`bash scripts/test.sh tests/clue_cli -k walk`); coverage is measured only without any,
# because a part of the tests cannot reach the coverage of the whole.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/_env.sh"

ensure_env "test"
cd -- "$ROOT"
"$VENV/bin/python" -m ruff check .
"$VENV/bin/python" -m ruff format --check .
"$VENV/bin/python" -m mypy
if (($# == 0)); then
    # A file's tests stay in one process, for what they share; each process computes with one thread.
    export OMP_NUM_THREADS=1
    set -- --cov --numprocesses auto --dist loadfile
fi
exec "$VENV/bin/python" -m pytest "$@"
