"""Whatever is done to a results folder that was signed and time-stamped, verification names the file."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from clue_cli.custody.attestation import add_stamp, sign_manifest, write_request
from clue_cli.custody.findings import NO_DIFFERENCE, Findings
from clue_cli.custody.signature import read_public_key, read_secret_key
from clue_cli.custody.timestamp import read_authority
from clue_cli.custody.verify import verify
from clue_cli.results.folder import ResultsFolder
from clue_cli.results.manifest_names import LISTED_IN_SUMS, MANIFEST_SUMS, SIGNATURE, TIME_STAMP, TIME_STAMP_REQUEST
from clue_cli.results.scan_store import LOCK
from tests.clue_cli.custody.signing import Authority, write_keys, write_results

PLACES = 1000

STANDING_FOR = {TIME_STAMP_REQUEST: TIME_STAMP}
"""A changed nonce of the request shows in the answer, which has the one that was sent."""


@dataclass(frozen=True)
class Case:
    """A signed results folder and what it is verified with."""

    folder: Path
    key: Path
    authority: Path | None

    @property
    def files(self) -> list[str]:
        """All files of the folder that hold something, by name."""
        found = (path for path in self.folder.rglob("*") if path.is_file() and path.name != LOCK)
        return sorted(str(path.relative_to(self.folder)) for path in found)

    def named(self) -> set[str]:
        """The files that a verification says something about, as path or in words."""
        with Findings() as findings:
            authority = None if self.authority is None else read_authority(self.authority)
            verify(self.folder, findings, key=read_public_key(self.key), authority=authority)
            differences = [found for found in findings.all() if found.kind not in NO_DIFFERENCE]
        said = {found.path for found in differences}
        if any(MANIFEST_SUMS in found.detail for found in differences):
            said.add(MANIFEST_SUMS)  # a hash in it and the hash of a list contradict each other
        return said


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Case:
    home = tmp_path_factory.mktemp("tampering")
    folder = write_results(home / "results", images=2)
    secret, public = write_keys(home)
    files = ResultsFolder(folder)
    with read_secret_key(secret) as key:
        sign_manifest(files, key)
    certificate = None
    if shutil.which("openssl") is not None:
        write_request(folder, files)
        authority = Authority(home / "tsa")
        (home / "answer.tsr").write_bytes(authority.answer((folder / TIME_STAMP_REQUEST).read_bytes()))
        add_stamp(folder, files, home / "answer.tsr")
        certificate = authority.certificate
    return Case(folder, public, certificate)


@pytest.fixture
def case(made: Case) -> Iterator[Case]:
    """The folder, which is put back as it was."""
    kept = {name: (made.folder / name).read_bytes() for name in made.files}
    yield made
    for name in made.files:
        if name not in kept:
            (made.folder / name).unlink()
    for name, content in kept.items():
        path = made.folder / name
        if path.is_symlink() or (path.exists() and not path.is_file()):
            path.unlink() if path.is_symlink() else path.rmdir()
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def test_nothing_is_said_of_an_untouched_folder(case: Case) -> None:
    assert case.named() == set()
    assert {*LISTED_IN_SUMS, MANIFEST_SUMS, SIGNATURE, "records.jsonl", "run.json", "index.html"} <= set(case.files)


def test_one_changed_byte_is_named_wherever_it_is(case: Case) -> None:
    """Files are drawn first, then the place, so that a signature is hit as often as a picture."""
    chance = random.Random(18)
    files = case.files
    for number in range(PLACES):
        name = chance.choice(files)
        path = case.folder / name
        content = path.read_bytes()
        place, change = chance.randrange(len(content)), chance.randrange(1, 256)
        path.write_bytes(content[:place] + bytes([content[place] ^ change]) + content[place + 1 :])
        named = case.named()
        path.write_bytes(content)
        expected = {name, STANDING_FOR.get(name, name)}
        assert named & expected, f"number {number}: byte {place} of {name}, changed by {change:#x}: {named}"


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def _remove(path: Path) -> None:
    path.unlink()


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [_cut, _empty, _append, _remove, _folder], ids=lambda change: change.__name__[1:])
def test_each_file_in_turn(case: Case, change: Callable[[Path], None]) -> None:
    for name in case.files:
        if change is _remove and name == TIME_STAMP_REQUEST:
            continue  # the answer holds without it
        path = case.folder / name
        content = path.read_bytes()
        change(path)
        named = case.named()
        if path.is_dir():
            path.rmdir()
        path.write_bytes(content)
        assert name in named, f"{name}: {named}"


def test_links_in_the_place_of_files(case: Case, tmp_path: Path) -> None:
    for name in case.files:
        path = case.folder / name
        shutil.copy(path, tmp_path / "elsewhere")
        content = path.read_bytes()
        path.unlink()
        path.symlink_to(tmp_path / "elsewhere")
        named = case.named()
        path.unlink()
        path.write_bytes(content)
        assert name in named, f"{name}: {named}"


def test_files_that_changed_places(case: Case) -> None:
    chance = random.Random(19)
    for _ in range(50):
        one, other = chance.sample(case.files, 2)
        contents = (case.folder / one).read_bytes(), (case.folder / other).read_bytes()
        if contents[0] == contents[1]:
            continue
        (case.folder / one).write_bytes(contents[1])
        (case.folder / other).write_bytes(contents[0])
        named = case.named()
        (case.folder / one).write_bytes(contents[0])
        (case.folder / other).write_bytes(contents[1])
        assert {one, other} <= named, f"{one}, {other}: {named}"


@pytest.mark.parametrize(
    "name", ["extra.txt", "masks/extra.png", "new/deep/folder/x", ".hidden", "notes.txt", "manifest.sha256.sig"]
)
def test_added_files_are_named(case: Case, name: str) -> None:
    path = case.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    assert name in case.named()


def test_a_manifest_that_was_made_anew_has_no_signature(case: Case) -> None:
    """Who can write into the folder can make all hashes fit again, but not the signature or the time stamp."""
    for list_name in ("manifest.hashdeep", "evidence.hashdeep"):
        path = case.folder / list_name
        path.write_bytes(path.read_bytes() + b"## a further comment\n")
    sums = "".join(
        f"{hashlib.sha256((case.folder / name).read_bytes()).hexdigest()}  {name}\n" for name in LISTED_IN_SUMS
    )
    (case.folder / MANIFEST_SUMS).write_text(sums)
    named = case.named()
    assert SIGNATURE in named
    assert (TIME_STAMP in named) == (case.authority is not None)
