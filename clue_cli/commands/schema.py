"""`clue schema`: the JSON Schemas of the files that a scan and a calibration write, generated from their types."""

from __future__ import annotations

import json
from pathlib import Path

import model
from clue_cli.errors import ExitCode, UsageError
from clue_cli.scan.fields import calibration_schema, fields_document, record_schema, run_schema
from clue_cli.terminal import write_stdout

_MODEL = Path(model.__file__).parent


def schema(
    *, run: bool = False, calibration: bool = False, fields: bool = False, mix: bool = False, preset: bool = False
) -> ExitCode:
    """Print a schema, or the table of fields, to stdout.

    Args:
        run: the schema of `run.json` instead of that of a record.
        calibration: the schema of a calibration file instead.
        fields: the meaning of every field of all three, in Markdown.
        mix: the description of `mix.yaml`, in Markdown.
        preset: the description of every key of a preset, in Python.

    Raises:
        UsageError: several were asked for.
    """
    asked = {"--run": run, "--calibration": calibration, "--fields": fields, "--mix": mix, "--preset": preset}
    given = [word for word, wanted in asked.items() if wanted]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other.", "Ask for one of them.")
    if mix or preset:
        write_stdout((_MODEL / ("data/MIX.md" if mix else "preset.py")).read_text("utf-8"))
    elif fields:
        write_stdout(fields_document())
    else:
        shown = run_schema() if run else calibration_schema() if calibration else record_schema()
        write_stdout(json.dumps(shown, indent=2, ensure_ascii=False) + "\n")
    return ExitCode.OK
