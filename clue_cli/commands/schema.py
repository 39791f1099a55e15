"""`clue schema`: the JSON Schemas of the files that a scan and a calibration write, generated from their types."""

from __future__ import annotations

import json

from clue_cli.errors import ExitCode, UsageError
from clue_cli.scan.fields import calibration_schema, fields_document, record_schema, run_schema
from clue_cli.terminal import write_stdout


def schema(*, run: bool = False, calibration: bool = False, fields: bool = False) -> ExitCode:
    """Print a schema, or the table of fields, to stdout.

    Args:
        run: the schema of `run.json` instead of that of a record.
        calibration: the schema of a calibration file instead.
        fields: the meaning of every field of all three, in Markdown.

    Raises:
        UsageError: several were asked for.
    """
    asked = [word for word, given in (("--run", run), ("--calibration", calibration), ("--fields", fields)) if given]
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)} exclude each other.", "--fields describes all of them.")
    if fields:
        write_stdout(fields_document())
    else:
        shown = run_schema() if run else calibration_schema() if calibration else record_schema()
        write_stdout(json.dumps(shown, indent=2, ensure_ascii=False) + "\n")
    return ExitCode.OK
