"""Hundreds of damaged files of every format: no crash of the run, no item lost, and always an answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clue_cli.evidence.item import Photo, Unreadable
from clue_cli.evidence.reader import identify
from clue_cli.evidence.sandbox.pool import DecodePool
from clue_cli.evidence.streams import DecodeLimits
from tests.clue_cli.evidence.collect import collect
from tests.faults import archives, broken_pictures, pictures

PER_FORMAT = 40
SOUND = pictures.encoded(pictures.photo(), "PNG")


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    with DecodePool(1, DecodeLimits(max_megapixels=4, max_pages=20, seconds=20)) as pool:
        yield pool


@pytest.mark.parametrize(("kind", "data"), pictures.one_of_each().items(), ids=list(pictures.one_of_each()))
def test_damaged_pictures(pool: DecodePool, kind: str, data: bytes) -> None:
    for number, damaged in enumerate(broken_pictures.mutations(data, PER_FORMAT, seed=hash_of(kind))):
        identity = identify(damaged, kind).model_copy(update={"sniffed_type": kind})
        results = list(pool.decode(f"{kind}-{number}", damaged, identity))
        assert results, number
        for result in results:
            assert isinstance(result, Photo | Unreadable)
            assert result.locator == f"{kind}-{number}"
        pages = [(result.page, type(result)) for result in results]
        assert len(pages) == len(set(pages)), number
    (after,) = pool.decode("sound", SOUND, identify(SOUND, "sound"))
    assert isinstance(after, Photo)


def hash_of(kind: str) -> int:
    """The same in every run, unlike hash()."""
    return sum(kind.encode())


MEMBERS = {f"{number}.png": SOUND for number in range(3)}
ARCHIVES = {
    "zip": lambda: archives.zip_of(MEMBERS),
    "tar": lambda: archives.tar_of(MEMBERS),
    "tar.gz": lambda: archives.tar_of(MEMBERS, "w:gz"),
    "tar.xz": lambda: archives.tar_of(MEMBERS, "w:xz"),
    "7z": lambda: archives.seven_zip_of(MEMBERS),
    "nested": lambda: archives.zip_of({"in.tar": archives.tar_of(MEMBERS), "in.7z": archives.seven_zip_of(MEMBERS)}),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_damaged_archives(tmp_path: Path, kind: str) -> None:
    answers = 0
    for number, damaged in enumerate(broken_pictures.mutations(ARCHIVES[kind](), PER_FORMAT, seed=hash_of(kind))):
        (tmp_path / "damaged.zip").write_bytes(damaged)
        (tmp_path / "sound.png").write_bytes(SOUND)
        found = collect(tmp_path)
        root = tmp_path.name
        assert found.pictures.pop(f"{root}/sound.png") == SOUND, number
        answers += len(found.pictures) + len(found.failures) + len(found.others)
        assert found.pictures or found.failures or found.others, number
    assert answers >= PER_FORMAT
