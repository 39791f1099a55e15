"""How much of an evaluation's time is spent outside the network; the target is at most 10 % with `mini` on the CPU.

    python scripts/bench_eval.py [--bench BENCH --root DIR] [--model MODEL] [--images N] [--side PIXELS] [--json FILE]

Without `--bench`, a set of N pictures is generated, forged and authentic in turn, each SIDE×SIDE·3/4 pixels. The set is
measured once with the network and the baselines that stand in every table. The wall clock runs from the first picture
at the network to the last figure; loading the model is not in it. Exit code 1: the target is missed.

Run it while the machine does nothing else: what others compute is counted as time outside the network.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from clue_cli.eval.options import EvalOptions
from clue_cli.eval.run import evaluate
from clue_cli.progress import ShownReporter

TARGET = 0.10


def write_set(folder: Path, images: int, side: int) -> Path:
    """Tp/Gt/Au: photographs of `scikit-image`, scaled; every second one with a part of another pasted in."""
    from skimage import data

    photos = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]  # type: ignore[no-untyped-call]
    size = (side, side * 3 // 4)
    for name in ("Tp", "Gt", "Au"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(images):
        picture, other = (
            np.array(Image.fromarray(photos[(number + step) % len(photos)]).resize(size, Image.Resampling.LANCZOS))
            for step in (0, 1)
        )
        if number % 2:
            Image.fromarray(picture).save(folder / "Au" / f"{number}.jpg", quality=90)
            continue
        height, width = picture.shape[:2]
        top, left = int(rng.integers(0, height // 2)), int(rng.integers(0, width // 2))
        box = np.s_[top : top + height // 3, left : left + width // 3]
        picture[box] = other[box]
        mask = np.zeros((height, width), np.uint8)
        mask[box] = 255
        Image.fromarray(picture).save(folder / "Tp" / f"{number}.jpg", quality=90)
        Image.fromarray(mask).save(folder / "Gt" / f"{number}.png")
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bench = options.bench or str(write_set(folder / "made", options.images, options.side))
        chosen = EvalOptions(
            bench=(bench,), root=options.root, model=options.model, limit=options.images if options.bench else None
        )
        with ShownReporter() as progress:
            results = evaluate(folder / "out", chosen, progress)
    timing = results.timing
    share = timing.share_outside_network
    report = {"set": "generated" if options.bench is None else bench, "target": TARGET, **timing.model_dump()}
    print(json.dumps(report, indent=2))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    return 0 if share is not None and share <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
