"""A results folder with a manifest, made without a network."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from clue_cli.custody.findings import NO_DIFFERENCE, Findings
from clue_cli.custody.manifest import write_manifest
from clue_cli.custody.observed import Observed
from clue_cli.custody.verify import verify
from clue_cli.records import Counts, FileIdentity
from clue_cli.report import write_report
from tests.clue_cli.results.made import failure, image, open_store, put, run

Found = set[tuple[str, str]]


def found(folder: Path, *evidence: Path) -> Found:
    """The differences that verification finds: kind and path."""
    with Findings() as findings:
        verify(folder, findings, evidence)
        return {(one.kind.value, one.path) for one in findings.all() if one.kind not in NO_DIFFERENCE}


def beside(folder: Path) -> Found:
    """What it notes that is no difference."""
    with Findings() as findings:
        verify(folder, findings)
        return {(one.kind.value, one.path) for one in findings.all() if one.kind in NO_DIFFERENCE}


def identity(content: bytes) -> FileIdentity:
    digest = hashlib.sha256(content).hexdigest()
    return FileIdentity(sha256=digest, byte_size=len(content), sniffed_type="jpeg", claimed_type="jpeg")


def write_results(out: Path, *locators: str) -> None:
    """Results of a finished run."""
    with Observed() as observed, open_store(out) as store:
        for locator in locators:
            record = put(store, image(locator, file=identity(locator.encode())))
            observed.saw(locator, record.file)
        store.write_failure(failure("evidence/broken.jpg", file=identity(b"broken")))
        counts = Counts(images=len(locators), failures=1)
        final = store.finish(run(status="finished", counts=counts))
        write_report(out, final, store.records())
        write_manifest(store, observed, final)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results, written once: read them only."""
    out = tmp_path_factory.mktemp("custody") / "results"
    write_results(out, "evidence/a.jpg", "evidence/sub/b.jpg", "evidence/case.zip!/x/c.jpg")
    return out


@pytest.fixture
def results(written: Path, tmp_path: Path) -> Path:
    """A copy to tamper with."""
    return Path(shutil.copytree(written, tmp_path / "results"))


@pytest.fixture
def flip() -> Callable[[Path, int], None]:
    """Changes one bit of a byte of a file."""

    def change(path: Path, place: int, bit: int = 0) -> None:
        content = bytearray(path.read_bytes())
        content[place] ^= 1 << bit
        path.write_bytes(content)

    return change
