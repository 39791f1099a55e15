#!/usr/bin/env bash
# From a clean clone to a scanned sample: makes .venv, installs clue, writes sample evidence, scans it.
# Can be run again at any time; what is up to date is not done twice.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/_env.sh"

ensure_env "7z"
cd -- "$ROOT"
"$VENV/bin/clue" sample sample-evidence

# Two of the sample's files are damaged on purpose, so clue ends with 1: done, but some files failed.
status=0
"$VENV/bin/clue" scan sample-evidence --out sample-results || status=$?
case $status in
    1) ;;
    0)
        echo "Two sample files are damaged, but clue reported no failure: something is wrong." >&2
        exit 1
        ;;
    *) exit "$status" ;;
esac

page="$("$VENV/bin/python" -c 'import pathlib; print(pathlib.Path("sample-results/index.html").resolve().as_uri())')"
cat <<END

The sample is scanned. The failures above are its damaged files, as they should be.
Results:       $page
What was done: $ROOT/sample-evidence-truth/truth.csv
Your own:      $VENV/bin/clue scan FOLDER --out RESULTS
END
