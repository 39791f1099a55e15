"""`clue schema`: the JSON Schema of the records, generated from their types."""

from __future__ import annotations

import json

from clue_cli.errors import ExitCode, UsageError
from clue_cli.scan.fields import fields_document, record_schema, run_schema
from clue_cli.terminal import write_stdout


def schema(*, run: bool = False, fields: bool = False) -> ExitCode:
    """Print a schema, or the table of fields, to stdout.

    Args:
        run: the schema of `run.json` instead of that of a record.
        fields: the meaning of every field of both, in Markdown.

    Raises:
        UsageError: both were asked for.
    """
    if run and fields:
        raise UsageError("--run and --fields exclude each other.", "--fields describes run.json as well.")
    shown = run_schema() if run else record_schema()
    write_stdout(fields_document() if fields else json.dumps(shown, indent=2, ensure_ascii=False) + "\n")
    return ExitCode.OK
