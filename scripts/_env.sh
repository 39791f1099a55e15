# Sourced by quickstart.sh and test.sh: the project's own environment in .venv, made once and brought up to date.
# shellcheck shell=bash

ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# Prints the first Python that is new enough. PYTHON=… in the environment is tried alone, if it is set.
find_python() {
    local candidate candidates=(python3 python3.13 python3.12 python3.11 python)
    if [[ -n ${PYTHON:-} ]]; then
        candidates=("$PYTHON")
    fi
    for candidate in "${candidates[@]}"; do
        if new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "clue needs Python 3.11 or newer, and found none (tried: ${candidates[*]})." >&2
    echo "Install one, or name it: PYTHON=/path/to/python3.12 bash $0" >&2
    return 1
}

# What the installation depends on; a change of it installs again.
fingerprint() {
    cat -- "$ROOT/pyproject.toml" "$ROOT/clue_cli/__init__.py" | cksum
}

# ensure_env EXTRAS: makes .venv if it is missing or its Python gone or old, installs clue with these extras if need be.
ensure_env() {
    local extras="$1" stamp="$VENV/.installed-$1" python
    if ! new_enough "$VENV/bin/python"; then
        python="$(find_python)" || return
        echo "Making .venv with $("$python" --version) …" >&2
        rm -rf -- "$VENV"
        if ! "$python" -m venv "$VENV"; then
            rm -rf -- "$VENV"
            echo "Python's venv module failed; on Debian and Ubuntu: apt-get install python3-venv" >&2
            return 1
        fi
    fi
    if [[ ! -f $stamp || $(<"$stamp") != "$(fingerprint)" ]]; then
        echo "Installing clue[$extras]; the first time this loads PyTorch and takes a few minutes …" >&2
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$ROOT[$extras]" || return
        fingerprint >"$stamp"
    fi
}
