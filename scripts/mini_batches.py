"""What `train_mini.py` trains on: batches of made forgeries and authentic pictures, and of tiles of large ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from model.data.forge import forge, forge_plainly
from model.data.history import jpeg, whole_picture
from model.data.photo_bank import PhotoBank
from model.data.shapes import LARGEST
from model.self_match import self_match

SHAPES = ((256, 256), (256, 384), (384, 256), (320, 320), (512, 512))
SHAPE_SHARES = (0.49, 0.20, 0.16, 0.07, 0.08)
LARGE = 200_000
"""Pictures with at least this many pixels come a quarter as many to a batch."""
TILES_SHARE = 0.2
"""Share of the batches that hold tiles of large pictures, as the network meets them in a scan: one around what was
forged, if anything was, and one from anywhere, with the maps of self-similarity of the whole."""
TILE = 512
TILED_SHAPES = ((768, 1024), (1024, 768), (640, 960))
TILED_SIDE = 780
"""Pixels: the photos that large pictures are made from have at least one side as long."""
TILED_FOLDER, TILED_OFTEN = "scenes", 4
"""Photos of 1,600 pixels, each drawn so many times as often as one of the others."""
SMALL_SHARE, SMALLEST, SMALL = 0.75, 0.001, 0.01
"""So many of the large pictures have a region that covers a share of them between the other two."""
TILED_KINDS = {"authentic": 0.14, "splice": 0.36, "copy_move": 0.22, "removal": 0.14, "local_edit": 0.14}
TILED_HARD, TILED_AGAIN = 0.75, 0.2
"""HARD_SHARE and AGAIN of the large pictures."""
HARD_SHARE, HARD_FROM = 0.5, 1500
"""From batch HARD_FROM on, this share of the samples is of every kind; before, it grows from none. A training that goes
on from other weights has the share from its start."""
AGAIN = 0.4
"""Share of the samples that are compressed once more in the end, as what is passed on is."""

Batch = tuple[Tensor, Tensor, Tensor]


class Batches(Dataset[Batch]):
    """Batch number i, made from nothing but the seed and i: any worker makes the same one."""

    def __init__(
        self,
        bank: PhotoBank,
        large: PhotoBank,
        pairs: list[tuple[Path, Path]],
        seed: int,
        batch: int,
        count: int,
        hard_from: int = 0,
    ) -> None:
        self.large = large
        self.bank, self.pairs, self.seed, self.batch, self.count = bank, pairs, seed, batch, count
        self.hard_from = hard_from

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Batch:
        cv2.setNumThreads(1)
        rng = np.random.default_rng([self.seed, index])
        if rng.random() < TILES_SHARE:
            return self.tiles(rng)
        height, width = SHAPES[int(rng.choice(len(SHAPES), p=SHAPE_SHARES))]
        images, masks, matches = [], [], []
        count = self.batch if height * width < LARGE else max(1, self.batch // 4)
        for _ in range(count):
            if self.pairs and (height, width) == (256, 256) and rng.random() < 0.1:
                pixels, mask = self.pair(rng)
            else:
                hard = HARD_SHARE * min(1.0, (index + 1) / (self.hard_from + 1))
                plainly = rng.random() > hard
                sample = (forge_plainly if plainly else forge)(self.bank, rng, height, width)
                pixels, mask = sample.pixels, sample.mask
            if rng.random() < AGAIN:
                pixels = jpeg(np.ascontiguousarray(pixels), rng, float(rng.uniform(60, 92)))
            images.append(torch.from_numpy(pixels).permute(2, 0, 1))
            masks.append(torch.from_numpy(mask)[None])
            matches.append(torch.from_numpy(self_match(pixels)))
        return torch.stack(images), torch.stack(masks), torch.stack(matches)

    def tiles(self, rng: np.random.Generator) -> Batch:
        """Two tiles of each of some large pictures."""
        shape = TILED_SHAPES[int(rng.integers(len(TILED_SHAPES)))]
        images, masks, matches = [], [], []
        for _ in range(max(1, self.batch // 8)):
            largest = SMALL if rng.random() < SMALL_SHARE else LARGEST
            if rng.random() < TILED_HARD:
                kind = str(rng.choice(list(TILED_KINDS), p=list(TILED_KINDS.values())))
                sample = forge(self.large, rng, *shape, kind, largest=largest)
            else:
                sample = forge_plainly(self.large, rng, *shape, smallest=SMALLEST, largest=largest)
            pixels, mask = sample.pixels, sample.mask
            if rng.random() < TILED_AGAIN:
                pixels = jpeg(np.ascontiguousarray(pixels), rng, float(rng.uniform(60, 92)))
            maps = self_match(pixels)
            for top, left in corners(mask, rng):
                part = slice(top, top + TILE), slice(left, left + TILE)
                cells = slice(top // 8, (top + TILE) // 8), slice(left // 8, (left + TILE) // 8)
                images.append(torch.from_numpy(np.ascontiguousarray(pixels[part])).permute(2, 0, 1))
                masks.append(torch.from_numpy(np.ascontiguousarray(mask[part]))[None])
                matches.append(torch.from_numpy(np.ascontiguousarray(maps[:, cells[0], cells[1]])))
        return torch.stack(images), torch.stack(masks), torch.stack(matches)

    def pair(self, rng: np.random.Generator) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """A composite found on the web, 256×256, with one more history on top."""
        image_path, mask_path = self.pairs[int(rng.integers(len(self.pairs)))]
        with Image.open(image_path) as image, Image.open(mask_path) as mask:
            pixels = np.asarray(image.convert("RGB").resize((256, 256)))
            region = np.asarray(mask.convert("L").resize((256, 256))) > 127
        if rng.random() < 0.5:
            pixels, region = pixels[:, ::-1], region[:, ::-1]
        pixels, _ = whole_picture(np.ascontiguousarray(pixels), rng)
        return np.ascontiguousarray(pixels), np.ascontiguousarray(region)


def corners(mask: np.ndarray[Any, Any], rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """(top, left) of two tiles, multiples of 8: one that holds a forged pixel, if there is any, and one anywhere."""
    anywhere = [int(rng.integers((side - TILE) // 8 + 1)) * 8 for side in mask.shape]
    forged = np.argwhere(mask)
    if not len(forged):
        yield anywhere[0], anywhere[1]
    else:
        pixel = forged[int(rng.integers(len(forged)))]
        first, last = np.maximum(0, (pixel - TILE + 8) // 8), np.minimum(pixel, np.array(mask.shape) - TILE) // 8
        top, left = (int(rng.integers(low, high + 1)) * 8 for low, high in zip(first, last, strict=True))
        yield top, left
    top, left = (int(rng.integers((side - TILE) // 8 + 1)) * 8 for side in mask.shape)
    yield top, left


def for_tiles(bank: PhotoBank) -> PhotoBank:
    """The photos of a bank that large pictures are made from."""
    large = [i for i in range(len(bank.paths)) if max(bank.size(i)) >= TILED_SIDE]
    often = [i for i in large if bank.paths[i].parent.name == TILED_FOLDER]
    return bank.part(often * TILED_OFTEN + [i for i in large if i not in often])
