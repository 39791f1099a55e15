"""Measure how fast forgeries are made: samples a second on one core, by kind and size.

The photos are those of `clue sample` as JPEGs: decoded beforehand, as in training; the mixes also with photos that are
decoded whenever one is drawn, as in training from more photos than are kept decoded. One process, one thread; nothing
else should run on the machine. Prints JSON: for each kind and size the samples, the mean and the slowest seconds of
one, and samples a second; for each size the default mix of `forge`, and `forge_plainly`.

    python scripts/bench_forge.py
    python scripts/bench_forge.py --sizes 256x256 512x512 --samples 200 > forge.json
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and OpenCV are loaded

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from clue_cli import __version__
from clue_cli.sample import pictures
from model.data.forge import EDITS, Forgery, forge, forge_plainly
from model.data.source_photos import Cutout, SourcePhotos

Maker = Callable[[SourcePhotos, np.random.Generator, int, int], Forgery]
MIXES: dict[str, Maker] = {"default mix": forge, "plainly": forge_plainly}
PHOTOS = ("kept", "on demand")
SIZES = ("256x256", "512x512", "1024x768")


def photo_bank(folder: Path, photos: str) -> SourcePhotos:
    """The photographs of `clue sample`, with an ellipse in each as object mask; `photos` is one of PHOTOS."""
    paths, cutouts = [], []
    for name, picture in pictures().items():
        if picture.mask is not None:
            continue
        paths.append(folder / f"{name}.jpg")
        Image.fromarray(picture.pixels).convert("RGB").save(paths[-1], quality=95)
        height, width = picture.pixels.shape[:2]
        mask = np.zeros((height, width), np.uint8)
        cv2.ellipse(mask, (width // 2, height // 2), (width // 4, height // 5), 20, 0, 360, 255, -1)
        cutouts.append(Cutout(len(paths) - 1, folder / f"{name}.mask.png"))
        Image.fromarray(mask).save(cutouts[-1].path)
    # of many photos, hardly one is drawn again soon
    return SourcePhotos(paths, cutouts, kept_bytes=10**10 if photos == "kept" else 0)


def makers() -> dict[str, Maker]:
    """What is measured, by name."""

    def of_kind(kind: str) -> Maker:
        return lambda bank, rng, height, width: forge(bank, rng, height, width, kind)

    return {**MIXES, **{kind: of_kind(kind) for kind in ("authentic", *EDITS)}}


def measure(make: Maker, bank: SourcePhotos, size: tuple[int, int], samples: int, seed: int) -> dict[str, Any]:
    """Seconds of processor time for samples of (width, height); the first few are not counted."""
    seconds = []
    for number in range(-2, samples):
        rng = np.random.default_rng([seed, number + 2])
        begun = time.process_time()
        make(bank, rng, size[1], size[0])
        if number >= 0:
            seconds.append(time.process_time() - begun)
    mean = float(np.mean(seconds))
    return {
        "samples": samples,
        "seconds_mean": round(mean, 5),
        "seconds_median": round(float(np.median(seconds)), 5),
        "seconds_slowest": round(max(seconds), 5),
        "samples_per_second_per_core": round(1 / max(mean, 1e-9), 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WxH")
    parser.add_argument("--kinds", nargs="+", default=list(makers()), choices=list(makers()), metavar="KIND")
    parser.add_argument("--photos", nargs="+", default=PHOTOS, choices=PHOTOS, help="on demand: the mixes alone")
    parser.add_argument("--samples", type=int, default=100, help="of each kind and size")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    rows = []
    with tempfile.TemporaryDirectory(prefix="clue-bench-forge-") as folder:
        for photos in args.photos:
            bank = photo_bank(Path(folder), photos)
            for text in args.sizes:
                width, height = (int(side) for side in text.split("x"))
                for name in [kind for kind in args.kinds if photos == "kept" or kind in MIXES]:
                    figures = measure(makers()[name], bank, (width, height), args.samples, args.seed)
                    rows.append({"kind": name, "size": text, "photos": photos, **figures})
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "opencv": cv2.__version__,
    }
    print(json.dumps({"clue": __version__, "seed": args.seed, "machine": machine, "figures": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
