"""Writes the manifest of a results folder at the end of a run, from the log and from what the run saw.

Nothing large is read again: pictures were hashed when they were written, and their hashes are in the records; verdict
files are made from the records once more and hashed. Files of records that an earlier version of clue wrote, which
hold no hashes, are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from clue_cli.custody.listing import (
    DfxmlWriter,
    HashdeepWriter,
    Hashing,
    Listed,
    ListingError,
    Observation,
    read_dfxml,
)
from clue_cli.custody.observed import Observed, name_on_disk
from clue_cli.errors import OutputError
from clue_cli.evidence.reader import hash_stream
from clue_cli.records import SCHEMA_VERSION, FailureRecord, ImageRecord, RunRecord
from clue_cli.results.explanations import EXPLANATIONS
from clue_cli.results.manifest_names import (
    EVIDENCE_DFXML,
    EVIDENCE_HASHDEEP,
    LISTED_IN_SUMS,
    MANIFEST_DFXML,
    MANIFEST_HASHDEEP,
    MANIFEST_SUMS,
    MANIFESTS,
    PAGE_NAME,
    RUNS,
)
from clue_cli.results.merging import runs_in
from clue_cli.results.reader import LOG, RUN, TORN
from clue_cli.results.scan_store import SUMMARY, ResultStore, json_of

NOTES = "notes.jsonl"


def write_manifest(store: ResultStore, observed: Observed, run: RunRecord, merged: Sequence[Path] = ()) -> None:
    """Write the manifest files; to be called when nothing else will be written into the folder.

    Args:
        store: of the run, whose log is open.
        observed: the evidence that it read; what the records say of evidence that it did not meet is added.
        run: as `run.json` says it.
        merged: results folders that were joined, of which observations of the evidence are taken over.

    Raises:
        OutputError: writing failed, or a file of an earlier version cannot be read.
    """
    about = [f"clue {run.version}, run {run.run_id}, {run.status}"]
    with ExitStack() as stack:
        hashdeep = Hashing(stack.enter_context(store.create(MANIFEST_HASHDEEP)))
        dfxml = Hashing(stack.enter_context(store.create(MANIFEST_DFXML)))
        lines = HashdeepWriter(hashdeep, ["sha256"], [*about, "of the results folder; see manifest.dfxml"])
        elements = DfxmlWriter(dfxml, [*about, "of the results folder"])
        for record in store.records():
            if record.file is not None:
                observed.saw(record.locator, record.file)  # unless this run did
            if isinstance(record, ImageRecord):
                for listed in files_of(record, store):
                    lines.add(listed.name, listed.now)
                    elements.add(listed)
        for name in _others(store.out):
            with store.read(name) as stream:
                size, hashes = hash_stream(stream)
            listed = Listed(name, Observation(size, hashes))
            lines.add(name, listed.now)
            elements.add(listed)
        elements.end()
    for earlier in sorted(runs_in(store.out), key=lambda one: one.run_id, reverse=True):
        observed.add_earlier(earlier)
    for folder in merged:
        for seen in _observed_in(folder / EVIDENCE_DFXML):
            observed.take_over(seen)
    sums = {MANIFEST_HASHDEEP: hashdeep, MANIFEST_DFXML: dfxml, **_write_evidence(store, observed, about)}
    with store.create(MANIFEST_SUMS, durable=True) as stream:
        stream.write("".join(f"{sums[name].digest.hexdigest()}  {name}\n" for name in LISTED_IN_SUMS).encode())


def _write_evidence(store: ResultStore, observed: Observed, about: list[str]) -> dict[str, Hashing]:
    algorithms = observed.algorithms()
    with ExitStack() as stack:
        hashdeep = Hashing(stack.enter_context(store.create(EVIDENCE_HASHDEEP)))
        dfxml = Hashing(stack.enter_context(store.create(EVIDENCE_DFXML)))
        lines = HashdeepWriter(
            hashdeep, algorithms, [*about, "of the evidence on disk as it was judged; see evidence.dfxml for all"]
        )
        elements = DfxmlWriter(
            dfxml, [*about, "of the evidence, by locator; original_fileobject: before it was judged"]
        )
        for listed in observed.files():
            elements.add(listed)
            if (name := name_on_disk(listed.name)) is not None:
                lines.add(name, listed.before or listed.now)
        elements.end()
    return {EVIDENCE_HASHDEEP: hashdeep, EVIDENCE_DFXML: dfxml}


def _observed_in(path: Path) -> Iterator[Listed]:
    """What another run observed, as far as it can be read; what cannot be is left out: the records say it without."""
    with suppress(OSError, ListingError), path.open("rb") as stream:
        yield from read_dfxml(stream)


def files_of(record: ImageRecord, store: ResultStore) -> Iterator[Listed]:
    """The files of a record as they were written."""
    written = {one.output: one for one in record.written}
    for output, path in record.outputs:
        if path is None:
            continue
        if (one := written.get(output)) is not None:
            yield Listed(path, Observation(one.byte_size, {"sha256": one.sha256}))
        elif output == "verdict" and is_of_this_schema(record):
            content = json_of(record)
            yield Listed(path, Observation(len(content), {"sha256": hashlib.sha256(content).hexdigest()}))
        elif (observation := _read(store, path)) is not None:
            yield Listed(path, observation)


def is_of_this_schema(record: ImageRecord | FailureRecord) -> bool:
    """Whether the record, written as JSON once more, gives the bytes of its verdict file."""
    return record.schema_version == SCHEMA_VERSION


def _read(store: ResultStore, path: str) -> Observation | None:
    """A file that an earlier version wrote, as it is; None if it is not there any more, as verification then says."""
    try:
        with store.read(path) as stream:
            return Observation(*hash_stream(stream))
    except OutputError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def _others(folder: Path) -> Iterator[str]:
    """What clue writes beside the files of records, as far as it is there; links and the like are no files of clue."""
    for name in (RUN, SUMMARY, LOG, TORN, EXPLANATIONS, NOTES):
        if _is_file(folder / name):
            yield name
    for path in sorted(folder.iterdir()):
        if PAGE_NAME.fullmatch(path.name) and _is_file(path):
            yield path.name
    runs = folder / RUNS
    if runs.is_dir() and not runs.is_symlink():
        yield from (f"{RUNS}/{path.name}" for path in sorted(runs.glob("*.json")) if _is_file(path))
        for kept in sorted(path for path in runs.iterdir() if path.is_dir() and not path.is_symlink()):
            yield from (f"{RUNS}/{kept.name}/{name}" for name in sorted(MANIFESTS) if _is_file(kept / name))


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
