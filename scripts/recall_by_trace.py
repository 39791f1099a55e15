"""What `mini` finds of a splice that leaves one trace alone: grid, quality, double quantization, noise, resampling, …

    python scripts/recall_by_trace.py --data DATA --pictures 60 --json traces.json

A piece of another held-out photo, an object's outline or a drawn shape of 3 to 15 % of the area, is put into a photo of
384×256. Both were shrunk alike before, so that nothing sets the piece apart but the trace that a row names, and what no
splice can do without: another content, and an edge. Each row is measured as it is, without loss, and after JPEG 90 and
JPEG 70: recall (the share of the piece that is marked) and F1, means over the pictures with 95 % intervals over them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model.checkpoint import inspect
from model.data import attacks
from model.data.history import add_grain, jpeg, off_grid
from model.data.shapes import drawn_shape
from model.data.source_photos import SourcePhotos
from model.device import resolve
from model.evaluation.bootstrap import mean_estimates
from model.evaluation.made import photos
from model.float8 import weights_format
from model.predictor import Prediction, Predictor
from model.storage import load

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
HEIGHT, WIDTH = 256, 384
SAVED: dict[str, Callable[[Pixels], Pixels]] = {
    "without loss": lambda pixels: pixels,
    "JPEG 90": lambda pixels: attacks.jpeg(pixels, 90),
    "JPEG 70": lambda pixels: attacks.jpeg(pixels, 70),
}


def crop(photo: Pixels, rng: np.random.Generator) -> Pixels:
    """HEIGHT×WIDTH of the photo at three quarters of its size or less."""
    scale = max(0.75 * min(1.0, rng.uniform(0.6, 1.0)), HEIGHT / photo.shape[0], WIDTH / photo.shape[1])
    size = max(WIDTH, round(photo.shape[1] * scale)), max(HEIGHT, round(photo.shape[0] * scale))
    small = np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)
    top, left = (int(rng.integers(a - b + 1)) for a, b in zip(small.shape[:2], (HEIGHT, WIDTH), strict=True))
    return np.ascontiguousarray(small[top : top + HEIGHT, left : left + WIDTH])


def put(host: Pixels, donor: Pixels, mask: Mask, softness: float = 0.0) -> Pixels:
    """The donor where the mask is, with an edge as wide as `softness`, pixels."""
    share = mask.astype(np.float32)[..., None]
    if softness:
        share = np.asarray(cv2.GaussianBlur(share, (0, 0), softness), np.float32)[..., None]
    return np.asarray(host * (1 - share) + donor * share + 0.5, np.uint8)


def enlarged(donor: Pixels, factor: float) -> Pixels:
    """The middle of it, larger."""
    size = round(WIDTH * factor), round(HEIGHT * factor)
    large = np.asarray(cv2.resize(donor, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    top, left = (size[1] - HEIGHT) // 2, (size[0] - WIDTH) // 2
    return np.ascontiguousarray(large[top : top + HEIGHT, left : left + WIDTH])


def warmer(donor: Pixels) -> Pixels:
    """As under another light."""
    return np.asarray((donor * np.array([1.12, 1.0, 0.85]) + 0.5).clip(0, 255), np.uint8)


def traces(host: Pixels, donor: Pixels, mask: Mask, rng: np.random.Generator) -> Iterator[tuple[str, Pixels]]:
    """Each trace by name, and the picture that has it."""
    first, second = float(rng.uniform(70, 92)), float(rng.uniform(70, 92))
    yield "nothing but content and a hard edge", put(host, donor, mask)
    yield "a soft edge", put(host, donor, mask, 1.5)
    yield "host was a JPEG, the piece was not", put(jpeg(host, rng, first), donor, mask)
    top, left = 1 + int(rng.integers(7)), 1 + int(rng.integers(7))
    yield "another grid", put(jpeg(host, rng, first), off_grid(donor, rng, first, top, left), mask)
    other = second if abs(second - first) > 8 else first - 15
    yield "another quality, same grid", put(jpeg(host, rng, first), jpeg(donor, rng, other), mask)
    yield "more noise", put(host, add_grain(donor, rng, 4.0), mask)
    yield "blurred", put(host, np.asarray(cv2.GaussianBlur(donor, (0, 0), 0.8), np.uint8), mask)
    yield "resampled", put(host, enlarged(donor, 1.3), mask)
    yield "another light", put(host, warmer(donor), mask)


def pictures(bank: SourcePhotos, count: int) -> Iterator[tuple[tuple[str, str, Mask], Pixels]]:
    """Every trace, saved in every way, in `count` pictures: the name of both and the mask, and the pixels."""
    for index in range(count):
        rng = np.random.default_rng([83, index])
        number, other = (int(n) for n in rng.choice(len(bank.paths), 2, replace=False))
        host, donor = crop(bank.photo(number), rng), crop(bank.photo(other), rng)
        mask = drawn_shape(rng, HEIGHT, WIDTH, float(rng.uniform(0.03, 0.15)))
        for trace, pixels in traces(host, donor, mask, rng):
            for saved, save in SAVED.items():
                yield (trace, saved, mask), save(np.ascontiguousarray(pixels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    found: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
    bank = photos(args.data, validation=True)
    predictor = Predictor(load(inspect(args.model), "cpu", weights_format(resolve("cpu", "auto")[1])))
    for result in predictor.predict(pictures(bank, args.pictures)):
        if not isinstance(result, Prediction):
            raise SystemExit(result.message)
        trace, saved, mask = result.key
        marked = result.heatmap > 0.5
        hit = float((marked & mask).sum())
        recalls, f1s = found.setdefault((trace, saved), ([], []))
        recalls.append(hit / float(mask.sum()))
        f1s.append(2 * hit / float(marked.sum() + mask.sum()))
    table: dict[str, Any] = {}
    for (trace, saved), (recalls, f1s) in found.items():
        figures = mean_estimates({"recall": np.array(recalls), "f1": np.array(f1s)}, seed=0)
        table[f"{trace}; {saved}"] = {name: figure.to_dict() for name, figure in figures.items()}
        print(f"{trace}; {saved}: {table[f'{trace}; {saved}']}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
