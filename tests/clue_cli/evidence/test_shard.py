"""Shards of the evidence: every event in exactly one of them, and nothing opened that belongs to another."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import BinaryIO

import pytest

from clue_cli.evidence import walk as walking
from clue_cli.evidence.item import ArchiveOpened, Item
from clue_cli.evidence.reader import read_item
from clue_cli.evidence.shard import Listing, Shard
from clue_cli.evidence.walk import WalkOptions, walk
from tests.clue_cli.evidence.collect import READER
from tests.faults.archives import tar_of, zip_of
from tests.faults.pictures import jpeg


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "a/b", "1/100001", "¹/³", "1.0/2"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Shard.parse(text)


def test_shards_balance_and_cover() -> None:
    shards = [Shard.parse(f"{number}/7") for number in range(1, 8)]
    owners = [[shard.number for shard in shards if shard.holds(f"e/{name}.jpg")] for name in range(7000)]
    assert all(len(owner) == 1 for owner in owners)
    assert all(900 < count < 1100 for count in Counter(owner[0] for owner in owners).values())


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    folder = tmp_path / "evidence"
    (folder / ".hidden").mkdir(parents=True)
    for number in range(12):
        (folder / f"{number}.jpg").write_bytes(b"picture")
    members = {f"{number}.jpg": b"picture" for number in range(9)}
    (folder / "a.zip").write_bytes(zip_of({**members, "inner.tar": tar_of(members)}))
    (folder / "big.tar").write_bytes(tar_of({**members, "large.bin": bytes(200_000)}))
    (folder / "cut.zip").write_bytes(zip_of(members)[:-30])
    (folder / "gone.jpg").symlink_to(folder / "nowhere")
    return folder


def events(paths: list[Path], shard: Shard | None) -> list[tuple[str, str]]:
    """What a run counts; what it must read and drop is read, too."""
    found = []
    for event in walk(paths, WalkOptions(shard=shard), READER):
        if isinstance(event, Item):
            read_item(event)
        if not (isinstance(event, Item | ArchiveOpened) and event.other_shard):
            found.append((type(event).__name__, event.locator))
    return found


def test_a_name_is_the_same_composed_and_decomposed() -> None:
    composed, decomposed = "/caf\u00e9.jpg", "/cafe\u0301.jpg"
    assert all(Shard(n, 97).holds(composed) == Shard(n, 97).holds(decomposed) for n in range(1, 98))


def listed(folder: Path, shard: Shard) -> tuple[int, str]:
    listing = Listing()
    for event in walk([folder], WalkOptions(shard=shard, listing=listing), READER):
        if isinstance(event, Item):
            read_item(event)
    return listing.count, listing.digest


def test_all_shards_list_the_same_files(evidence: Path) -> None:
    first = listed(evidence, Shard(1, 2))
    assert first[0] == 12 + 3
    assert listed(evidence, Shard(2, 2)) == first
    moved = evidence.rename(evidence.with_name("mounted elsewhere"))
    assert listed(moved, Shard(2, 2)) == first
    (moved / "0.jpg").write_bytes(b"another size")
    assert listed(moved, Shard(2, 2)) != first
    (moved / "0.jpg").write_bytes(b"picture")
    (moved / "0.jpg").rename(moved / "new.jpg")
    assert listed(moved, Shard(2, 2)) != first


@pytest.mark.parametrize("of", ["folder", "two folders", "archive"])
def test_the_shards_together_meet_what_one_run_meets(
    of: str, evidence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "LARGEST_WHOLE", 100_000)  # big.tar is divided
    other = tmp_path / "other"
    other.mkdir()
    (other / "1.jpg").write_bytes(b"picture")
    paths = {"folder": [evidence], "two folders": [evidence, other], "archive": [evidence / "a.zip"]}[of]
    parts = [events(paths, Shard(number, 3)) for number in (1, 2, 3)]
    assert sorted(event for part in parts for event in part) == sorted(events(paths, None))
    assert all(parts)
    if of == "folder":
        owners = [{locator.partition("!/")[0] for _, locator in part} for part in parts]
        assert sum("evidence/a.zip" in owner for owner in owners) == 1
        assert sum("evidence/big.tar" in owner for owner in owners) > 1


def test_the_name_of_a_single_path_does_not_matter(evidence: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "usb"
    before = events([evidence], Shard(1, 3))
    evidence.rename(renamed)
    assert [(kind, locator.replace("usb", "evidence")) for kind, locator in events([renamed], Shard(1, 3))] == before


def test_what_belongs_to_another_shard_is_not_opened(evidence: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = walking.open_file

    def noting(path: Path) -> BinaryIO:
        opened.append(path.name)
        return real(path)

    monkeypatch.setattr(walking, "open_file", noting)
    mine = {locator.partition("!/")[0].removeprefix("evidence/") for _, locator in events([evidence], Shard(2, 3))}
    assert 0 < len(set(opened)) <= len(mine)
    assert set(opened) <= mine


def test_damage_shows_in_every_shard_as_in_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "LARGEST_WHOLE", 0)
    folder = tmp_path / "e"
    folder.mkdir()
    members = {f"{number}.jpg": jpeg(64 + number, 64) for number in range(8)}
    content = tar_of(members, "w:gz")
    (folder / "cut.tgz").write_bytes(content[: len(content) // 2])
    parts = [events([folder], Shard(number, 3)) for number in (1, 2, 3)]
    assert sorted(event for part in parts for event in part) == sorted(events([folder], None))
