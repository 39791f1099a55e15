"""No photo is on two sides, whatever was made from it."""

from __future__ import annotations

from pathlib import Path

from model.data.mix import Validation
from model.data.split import place, split_of, split_of_photo
from model.datasets.sample import Sample


def image(*photos: str) -> Sample:
    return Sample("x", Path("x"), (), False, photos=photos)


def test_a_photo_is_on_one_side_in_every_source() -> None:
    split = Validation(0.3, 5, 0.2)
    photos = [f"photo{n}" for n in range(60)]
    pairs = [image(a, b) for a in photos for b in photos if a != b]
    sides: dict[str | None, set[str]] = {"train": set(), "validation": set(), "calibration": set(), None: set()}
    for sample in [*pairs, *(image(photo) for photo in photos)]:
        sides[split_of(sample, split)].update(sample.photos)
    spliced = sides.pop(None)
    assert spliced == set(photos)  # splices of several sides are on none
    assert all(len(found) > 3 for found in sides.values())
    assert sum(len(found) for found in sides.values()) == len(set().union(*sides.values())) == 60


def test_the_shares_and_the_seed_decide() -> None:
    photos = [f"photo{n}" for n in range(2000)]

    def held_out(split: Validation, side: str = "validation") -> set[str]:
        return {photo for photo in photos if split_of_photo(photo, split) == side}

    chosen = [held_out(Validation(0.1, seed)) for seed in (0, 1)]
    assert all(140 < len(some) < 260 for some in chosen)
    assert chosen[0] != chosen[1]
    assert not held_out(Validation(0.0))
    assert not held_out(Validation(0.1, 0, 0.0), "calibration")
    assert 60 < len(held_out(Validation(0.1, 0, 0.05), "calibration")) < 140


def test_one_share_moves_no_photo_of_the_other() -> None:
    photos = [f"photo{n}" for n in range(300)]
    splits = [Validation(share, 0, 0.1) for share in (0.0, 0.1, 0.5)]
    sides = [{photo for photo in photos if split_of_photo(photo, split) == "calibration"} for split in splits]
    assert sides[0] == sides[1] == sides[2] != set()


def test_how_accents_are_composed_and_what_is_no_utf8_moves_no_photo() -> None:
    assert place("caf\u00e9") == place("cafe\u0301") != place("cafe")
    assert len({place(name) for name in ("\udcff", "\ud800", "")}) == 3
