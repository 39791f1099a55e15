"""`clue verify`: the options, one call, what was found, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clue_cli.commands.options import Quiet, path, path_or_url
from clue_cli.errors import ExitCode, UsageError
from clue_cli.terminal import counted, printable, say, write_stdout

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from minisign import PublicKey

    from clue_cli.custody.findings import Findings, Move
    from clue_cli.custody.verify import Verified

_SHOWN = 50
"""Findings of one kind that are shown; --json has all."""


def verify(
    results: Annotated[
        Any,  # Path or Url
        typer.Argument(parser=path_or_url, metavar="RESULTS", help="Results folder of a scan or of a merge."),
    ],
    evidence: Annotated[
        list[Path] | None,
        typer.Option(
            parser=path,
            metavar="PATH",
            help="Also compare the evidence, which now lies at PATH. Can be repeated.",
            show_default="the evidence is not read",
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            metavar="PUBLIC",
            help="Public key of whoever must have signed the manifest, a file of minisign.",
            show_default="what a signature claims is shown and not checked",
        ),
    ] = None,
    authority: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            metavar="CERTIFICATE",
            help="Root certificate of the time-stamping authority, in PEM or DER.",
            show_default="a time stamp is compared with the manifest; who issued it is not checked",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was found to stdout as one JSON object, for scripts.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Compare a results folder, and the evidence, with the manifest that the scan wrote.

    Every file is hashed again. Nothing is written. The exit code is 0 if all
    is as recorded, 1 if anything was changed, is missing, or was added, and 8
    if the signature or the time stamp does not hold, or is missing although
    --key or --authority asks for it.
    """
    from clue_cli.custody.findings import Findings, Kind
    from clue_cli.custody.verify import verify as run
    from clue_cli.progress import ShownReporter

    if not isinstance(results, Path):
        raise UsageError(
            f"{results.shown} is in a store, and a verification reads every file.",
            "Copy the folder to this machine as a whole, and verify the copy.",
        )
    signer, trusted = _keys(key, authority)
    with Findings() as findings:
        with ShownReporter(quiet=quiet) as reporter:
            verified = run(results, findings, evidence or (), reporter, signer, trusted)
        if as_json:
            _print_json(results, findings, verified)
        if not quiet:
            _show(results, findings, verified)
        if findings.counts[Kind.SIGNATURE]:
            raise typer.Exit(ExitCode.NOT_ATTESTED)
        raise typer.Exit(ExitCode.SOME_FAILED if findings.differences else ExitCode.OK)


def _keys(key: Path | None, authority: Path | None) -> tuple[PublicKey | None, list[Certificate] | None]:
    from clue_cli.custody.signature import read_public_key
    from clue_cli.custody.timestamp import read_authority

    return None if key is None else read_public_key(key), None if authority is None else read_authority(authority)


def _print_json(results: Path, findings: Findings, verified: Verified) -> None:
    from clue_cli.custody.findings import NO_DIFFERENCE

    head = {
        "format": "clue-verify/1",
        "results": printable(str(results)),
        "run_id": None if verified.run is None else verified.run.run_id,
        "as_recorded": not findings.differences,
        "files": verified.files,
        "bytes": verified.bytes,
        "evidence_files": verified.evidence,
        "evidence_elsewhere": verified.elsewhere,
        "signature": _signature(verified),
        "time_stamp": _time_stamp(verified),
        "notes": verified.notes,
        "counts": {kind.value: number for kind, number in findings.counts.items()},
    }
    text = json.dumps(head, indent=2).removesuffix("\n}")
    if not write_stdout(f'{text},\n  "findings": ['):
        return
    separator = "\n"
    for found in findings.all():
        one = {
            "area": found.area,
            "kind": found.kind.value,
            "difference": found.kind not in NO_DIFFERENCE,
            "path": found.path,
            "detail": found.detail,
        }
        if not write_stdout(f"{separator}    {json.dumps(one)}"):
            return
        separator = ",\n"
    write_stdout("\n  ]\n}\n")


def _signature(verified: Verified) -> dict[str, Any] | None:
    signed = verified.attested.signature
    if signed is None:
        return None
    return {
        "key_id": signed.key_id,
        "comment": signed.comment,
        "claimed": None if signed.claimed is None else signed.claimed.isoformat(),
        "checked": verified.attested.signature_checked,
    }


def _time_stamp(verified: Verified) -> dict[str, Any] | None:
    stamp = verified.attested.stamp
    if stamp is None:
        return None
    return {
        "time": stamp.time.isoformat(),
        "authority": stamp.authority,
        "serial": str(stamp.serial),
        "checked": stamp.checked,
    }


def _moved(move: Move, of: int) -> str:
    """Where files lie that lay elsewhere, with the names that they had there."""
    number = f"{'all ' if move.files == of else ''}{counted(move.files, 'file')}"
    if move.source:
        return f"{number} that lay below {move.source}/ now lie below {move.target}/, under the same names"
    return f"{number} now lie below {move.target}/, under the same names; name it with --evidence to compare them there"


def _show(results: Path, findings: Findings, verified: Verified) -> None:
    from clue_cli.custody.findings import Kind

    beside = {Kind.AFTERWARDS: "Not covered by the manifest", Kind.SYSTEM: "Left by a desktop"}
    for kind in Kind:
        if not (number := findings.counts[kind]):
            continue
        say(f"{beside.get(kind, kind.value.upper())}: {number:,}")
        singly, said = findings.all(kind, _SHOWN), 0
        if kind is Kind.MOVED:
            moves = list(findings.moves(_SHOWN))
            for move in moves:
                say(printable(f"  {_moved(move, number)}"))
            singly, said = findings.moved_alone(_SHOWN - len(moves)), sum(move.files for move in moves)
        for found in singly:
            say(printable(f"  {found.path}: {found.detail}"))
            said += 1
        if number > said:
            say(f"  and {number - said:,} more (--json lists all)")
    for note in verified.notes:
        say(printable(note))
    checked = f"{counted(verified.files, 'file')} of the results"
    if verified.evidence is not None:
        checked += f" and {counted(verified.evidence, 'file')} of the evidence"
    if findings.differences:
        say(f"{counted(findings.differences, 'difference')}; {checked} compared.")
    else:
        not_read = "" if verified.evidence is not None else " The evidence was not compared (--evidence)."
        if verified.elsewhere:
            were = "was" if verified.elsewhere == 1 else "were"
            not_read = f" {counted(verified.elsewhere, 'file')} of the evidence {were} not (see above)."
        say(f"All as recorded: {checked} compared.{not_read}")
