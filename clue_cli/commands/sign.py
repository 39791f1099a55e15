"""`clue sign`: the signature of a results folder, and its time stamp by an authority."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clue_cli.commands.options import path
from clue_cli.commands.results import Results
from clue_cli.errors import ExitCode, OutputError, UsageError
from clue_cli.terminal import printable, say


def sign(
    results: Results,
    key: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            metavar="SECRET",
            help="Sign with this secret key, a file of minisign. Its passphrase is asked for, or taken from the "
            "environment variable CLUE_PASSPHRASE.",
            show_default=False,
        ),
    ] = None,
    timestamp_request: Annotated[
        bool,
        typer.Option(
            "--timestamp-request",
            help="Write manifest.sha256.tsq, the request to send to a time-stamping authority (RFC 3161).",
        ),
    ] = False,
    timestamp: Annotated[
        Path | None,
        typer.Option(
            parser=path,
            metavar="ANSWER",
            help="Add the authority's answer, if it is over this manifest and answers that request.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Sign the manifest of a results folder, or have it time-stamped by an authority of your own.

    The manifest stands for all files of the folder. Run clue verify first:
    what is signed is what is there. Clue sends nothing anywhere: the request
    goes to the authority by your own means, such as
    curl -H 'Content-Type: application/timestamp-query' --data-binary @FILE URL.

    A signature by another key is never replaced, nor is another time stamp.
    """
    if key is None and timestamp is None and not timestamp_request:
        raise UsageError(
            "There is nothing to do without an option.", "Name a key with --key, or see --timestamp-request."
        )
    from clue_cli.custody.attestation import (
        add_stamp,
        check_replaceable,
        check_signable,
        sign_manifest,
        write_request,
    )
    from clue_cli.results.folder import ResultsFolder
    from clue_cli.results.manifest_names import SIGNATURE, TIME_STAMP, TIME_STAMP_REQUEST
    from clue_cli.results.scan_store import LOCK

    check_signable(results)
    folder = ResultsFolder(results)
    try:
        folder.lock(LOCK, f"A scan is writing to {results}.")
        if key is not None:
            from clue_cli.custody.signature import key_id, read_secret_key

            with read_secret_key(key) as secret:
                check_replaceable(results, own := key_id(secret.get_public_key()))
                sign_manifest(folder, secret)
            say(printable(f"Signed with the key {own}: {results / SIGNATURE}"))
        if timestamp_request:
            written = write_request(results, folder)
            say(printable(f"Request{'' if written else ', as it was'}: {results / TIME_STAMP_REQUEST}"))
        if timestamp is not None:
            stamp = add_stamp(results, folder, timestamp)
            say(
                printable(
                    f"Time stamp of {stamp.time:%Y-%m-%d %H:%M:%S} UTC by {stamp.authority}: {results / TIME_STAMP}"
                )
            )
            say("The authority was not checked: clue verify --authority CERTIFICATE does that.")
    except OutputError as error:
        advice = "What is signed is written into the results folder: make it writable, or copy it."
        raise OutputError(error.message, advice) from error
    finally:
        folder.release()
    raise typer.Exit(ExitCode.OK)
