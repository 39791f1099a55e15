"""Forgeries and authentic pictures made from the photos that the trainings of `mini` never saw.

For `finish_mini.py`, which fits the operating point and the score on some, and `measure_mini.py`, which measures on
others. Forged and authentic ones have the same sizes and go through the same histories; large ones are made of photos
that need not be enlarged for it. All come from the same photos, so intervals are over photos.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.forge import KINDS, Forgery, forge
from model.data.photo_bank import PhotoBank, bank_of

PHOTOS = ("coco", "people", "web", "nature", "scenes")
LARGE_PHOTOS = ("scenes",)
"""Of 1,000 pixels and more."""
HELD_OUT = 0.08
KIND_SHARES = (0.45, 0.25, 0.15, 0.15)
"""Of KINDS without `authentic`."""
SIZES = ((256, 384), (384, 256), (320, 320), (480, 640), (768, 1024), (1072, 1600))
SMALL_SIZE, SMALL = (768, 1024), 0.01
SMALL_SEED = 91

Sample = tuple[tuple[int, Forgery], NDArray[np.uint8]]


def held_out_photos(data: Path, cache: Path, folders: Sequence[str] = PHOTOS) -> PhotoBank:
    """Those photos of DATA/photos that no training of `mini` saw, decoded."""
    photos = data / "photos"
    mask_folders = [(photos / "coco_instances", "train2017_"), (photos / "people_masks", "")]
    bank = bank_of([photos / name for name in folders], mask_folders, cache, share=HELD_OUT, validation=True)
    bank.prepare()
    return bank


def half_of(path: Path) -> int:
    """0 or 1, from the name alone."""
    return hashlib.sha256(path.name.encode()).digest()[31] % 2


def covers(photo: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether a photo has about as many pixels as a sample or more; small ones may come of any."""
    pixels = size[0] * size[1]
    return pixels <= 400_000 or photo[0] * photo[1] >= 0.8 * pixels


def samples(bank: PhotoBank, seed: int, count: int) -> Iterator[Sample]:
    """((half, sample), pixels): of each half and each size as many authentic as forged ones, of every kind.

    The numbers of a sample's photos are those of the bank.
    """
    halves = [[number for number, path in enumerate(bank.paths) if half_of(path) == half] for half in (0, 1)]
    numbers = {
        (half, size): [number for number in halves[half] if covers(bank.size(number), size)]
        for half in (0, 1)
        for size in SIZES
    }
    banks = {key: bank.part(kept) for key, kept in numbers.items()}
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        forged, half, size = index % 2 == 1, index // 2 % 2, SIZES[index // 4 % len(SIZES)]
        kind = str(rng.choice(KINDS[1:], p=KIND_SHARES)) if forged else "authentic"
        sample = forge(banks[half, size], rng, *size, kind)
        sample.photos = [numbers[half, size][number] for number in sample.photos]
        yield (half, sample), sample.pixels


def small_forgeries(bank: PhotoBank, count: int) -> Iterator[tuple[Forgery, NDArray[np.uint8]]]:
    """Forgeries of SMALL_SIZE with regions under SMALL of the area."""
    for index in range(count):
        rng = np.random.default_rng([SMALL_SEED, index])
        while True:
            sample = forge(bank, rng, *SMALL_SIZE, str(rng.choice(KINDS[1:], p=KIND_SHARES)))
            if 0 < sample.mask.mean() < SMALL:
                yield sample, sample.pixels
                break
