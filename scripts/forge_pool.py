"""Forge samples for `train_mini.py` into a folder, by as many processes as there are cores to spare.

    python scripts/forge_pool.py --data DATA --screens SCREENS --out pool --workers 2

One .npz a tile, in a folder for each size: the bytes of a picture file, the JPEG that the tile was saved as or else
WebP without loss; mask H×W in bits; maps of self-similarity float16. So a pool is small enough to be sent to a machine
with a GPU, which learns many times faster than its processors forge. Runs until it is stopped or has made
--count samples; the same command goes on where it was. A training reads the folder while it grows.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import argparse
import io
import multiprocessing
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from mini_samples import Pixels, Sample, Samples
from PIL import Image

from model.data.edits.scene import Autoencoder, Tools
from model.data.history import decode
from model.data.resynthesis import load_autoencoder

ROOM = 3e9
"""Bytes that are left free on the disk."""


def save(out: Path, name: str, sample: Sample) -> None:
    """Write one tile, whole or not at all."""
    folder = out / f"{sample.mask.shape[0]}x{sample.mask.shape[1]}"
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{name}.part"
    with partial.open("wb") as file:
        np.savez_compressed(
            file,
            picture=np.frombuffer(sample.jpeg or lossless(sample.pixels), np.uint8),
            mask=np.packbits(sample.mask),
            matches=sample.matches.astype(np.float16),
            kind=np.array(sample.kind),
        )
    partial.replace(folder / f"{name}.npz")


def lossless(pixels: Pixels) -> bytes:
    """A WebP file of them."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, quality=40, method=2)
    return buffer.getvalue()


def load(path: Path) -> Sample:
    """What `save` wrote."""
    with np.load(path) as stored:
        pixels = np.array(decode(stored["picture"].tobytes()))
        shape = pixels.shape[:2]
        mask = np.unpackbits(stored["mask"], count=shape[0] * shape[1]).reshape(shape).astype(bool)
        return Sample(pixels, mask, stored["matches"].astype(np.float32), str(stored["kind"]))


def either(fillers: list[Autoencoder]) -> Autoencoder:
    """One of several, chosen by the pixels."""

    def filled(pixels: Pixels) -> Pixels:
        return fillers[int(pixels.sum(dtype=np.int64)) % len(fillers)](pixels)

    return filled


def work(samples: Samples, out: Path, seed: int, first: int, step: int, count: int) -> None:
    """Make samples number first, first + step, …"""
    torch.set_num_threads(1)
    os.nice(10)
    done = [int(path.stem.split("-")[1]) for path in out.glob(f"*/{seed}-*.npz")]
    start = max([number for number in done if number % step == first], default=first - step) + step
    for number in range(start, count, step):
        if shutil.disk_usage(out).free < ROOM:
            print(f"{out}: the disk is full", file=sys.stderr)
            return
        try:
            for tile, sample in enumerate(samples.make(seed, number)):
                save(out, f"{seed}-{number:07}-{tile}", sample)
        except Exception as error:  # one odd photo costs a sample
            print(f"sample {number}: {error!r}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--screens", type=Path, help="what make_screens.py wrote")
    parser.add_argument("--filler", type=Path, nargs="*", default=[], help="what train_filler.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=10**7, help="samples")
    parser.add_argument("--held-out", action="store_true", help="of photos that no training sees")
    args = parser.parse_args()
    tools = Tools(autoencoder=either([load_autoencoder(path) for path in args.filler])) if args.filler else None
    args.out.mkdir(parents=True, exist_ok=True)
    samples = Samples(args.data, args.screens, validation=args.held_out, tools=tools)
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=work, args=(samples, args.out, args.seed, first, args.workers, args.count))
        for first in range(args.workers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


if __name__ == "__main__":
    main()
