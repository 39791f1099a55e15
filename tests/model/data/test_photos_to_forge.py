"""The photos of a `forge` source: those of one side, with their cut-outs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image

from model.data.mix import Forge, MaskFolder, Validation
from model.data.photo_bank import PhotoBank, bank_of
from model.data.photos_to_forge import decode, photos_to_forge
from model.data.sides import Side
from tests.model.data.made import touch


def test_photos_to_forge_keep_their_cutouts(tmp_path: Path) -> None:
    touch(tmp_path, *(f"p/{n}.jpg" for n in range(40)), *(f"m/t_{n}_0.png" for n in range(40)), "m/t_x.png")
    data = Forge((tmp_path / "p",), (MaskFolder(tmp_path / "m", "t_"),))

    def size_of(photo: Path) -> tuple[int, int] | None:
        return None if photo.stem == "7" else (8, int(photo.stem))

    banks = {
        side: photos_to_forge(data, side, Validation(0.4, 0, 0.2), tmp_path / "c", size_of) for side in get_args(Side)
    }
    stems = {side: {p.stem for p in bank.paths} for side, bank in banks.items()}
    assert set().union(*stems.values()) == {str(n) for n in range(40)} - {"7"}
    assert sum(map(len, stems.values())) == 39
    for side, bank in banks.items():
        assert len(bank.cutouts) == len(bank.paths) > 0
        assert bank.sizes == [(8, int(path.stem)) for path in bank.paths]
        assert all(c.path.stem.split("_")[1] == bank.paths[c.photo].stem for c in bank.cutouts), side


def test_names_that_are_not_utf_8_have_a_side(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).touch()
    banks = [photos_to_forge(Forge((tmp_path,)), side, Validation(), tmp_path) for side in get_args(Side)]
    assert sum(len(bank.paths) for bank in banks) == 1


def test_no_room_for_the_decoded_photos_is_told_with_the_folder(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    (tmp_path / "taken").write_text("")
    bank = PhotoBank([tmp_path / "a.png"], [], tmp_path / "taken" / "cache")
    with pytest.raises(OSError, match="no room for the decoded photos") as raised:
        decode(bank, [])
    assert raised.value.filename == str(tmp_path / "taken" / "cache")


def test_a_part_of_what_is_decoded(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (8 + number, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "bad.png").write_bytes(b"bad")
    bank = bank_of([tmp_path], [], tmp_path / "cache", share=0, validation=False)
    problems: list[str] = []
    assert decode(bank, problems)
    assert [problem.split(": ")[0] for problem in problems] == [str(tmp_path / "bad.png")]
    part = bank.part([2, 0])
    assert [part.photo(i)[0, 0, 0] for i in (0, 1)] == [2, 0]
    assert [part.size(i) for i in (0, 1)] == [(8, 10), (8, 8)]
    assert not decode(bank.part([]), problems)
