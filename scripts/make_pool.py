"""Forge samples for `train_on_pool.py`, beside it or before it, and pack what they are made of for another machine.

    python scripts/make_pool.py pack --data DATA --out PACKS [--megabytes 9 54]
    python scripts/make_pool.py forge --data TRAIN --pool POOL/train --workers 15
    python scripts/make_pool.py forge --data HELD --pool POOL/held --workers 16 --pictures 480

`pack` sorts DATA (photos/, screens/, composites/ and fillers/, as `clue eval --bench made`, `make_screens.py` and
`train_filler.py` have them) into folders of at most so many megabytes, the first and the others: p0, p1, … hold what is
trained on, `held` some of what is not. Put together, p0, p1, … are TRAIN.

`forge` makes the pictures of the recipe `mini` and writes their tiles into a folder, best in memory (/dev/shm); without
--pictures, until it is killed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from model.data.forge import EDIT_ERRORS
from model.data.made import WHOLE, MadeStream
from model.data.making import Making
from model.data.mix import load_mix
from model.data.stream import TrainingSample
from model.evaluation.made import camera_model, held_out

RECIPE = Path(__file__).parents[1] / "model" / "training" / "recipes" / "mini.yaml"
MIX = """
validation: {{share: 0, calibration_share: 0}}
sources:
  - forge:
      photos: [{photos}]
      masks:
        - {{folder: {data}/photos/coco_instances, prefix: train2017_}}
        - {{folder: {data}/photos/coco_instances, prefix: val2017_}}
        - {{folder: {data}/photos/people_masks}}
      fillers: [{fillers}]
    name: photos
  - {{forge: {{photos: ["{data}/photos/cameras"]}}, name: cameras}}
  - {{authentic: ["{data}/screens/{side}"], name: screens}}
  - {{forge: {{photos: ["{data}/screens/pages/{side}"]}}, name: pages}}
  - {{pairs: {{images: "{data}/composites/images", masks: "{data}/composites/masks"}}, name: composites}}
"""
PHOTOS = ("coco", "people", "nature", "scenes")
SCENE, SCENE_QUALITY = 1280, 93
"""Sides and JPEG quality of the large photos in a pack."""
LARGEST_HELD = 330_000
"""Bytes: larger held-out photos do not travel."""
TOGETHER = 12
"""Tiles of one size in a file of the pool."""
Tiles = tuple[Tensor, Tensor, Tensor]
"""Pixels B×3×H×W uint8, masks B×H×W bool, maps of self-similarity B×C×H/8×W/8 float16."""


def recipe() -> Making:
    """The samples of the recipe `mini`, none compressed once more: the training does that on its device."""
    made = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))["made"]
    return Making.model_validate(made | {"recompressed": 0.0})


# ---- Packing --------------------------------------------------------------------------------------------------------


def pack(data: Path, out: Path, first: float, others: float) -> None:
    """Sort the data into folders of at most `first` and `others` megabytes, with some of everything in each."""
    photos = data / "photos"
    masks: dict[str, list[Path]] = {}
    for mask in sorted((photos / "coco_instances").glob("*.png")):
        masks.setdefault(mask.stem.split("_")[1], []).append(mask)
    train: list[list[Path]] = []
    held: list[list[Path]] = []
    for folder in PHOTOS:
        for photo in sorted((photos / folder).iterdir()):
            own = masks.get(photo.stem.split("_")[-1], []) if folder == "coco" else []
            person = photos / "people_masks" / f"{photo.stem}.png"
            group = [photo, *own, *([person] if folder == "people" and person.exists() else [])]
            (held if held_out(photo) else train).append(group)
    for photo in sorted((photos / "cameras").iterdir()):
        other = hashlib.sha256(camera_model(photo).encode()).digest()[0] % 2 == 0
        (held if other else train).append([photo])
    for number, image in enumerate(sorted((data / "composites" / "images").glob("*.jpg"))):
        pair = [image, data / "composites" / "masks" / f"{image.stem}.png"]
        if number % 4 == 0:
            train.append(pair)
        elif number % 40 == 1:
            held.append(pair)
    for side, groups, every in (("train", train, 1), ("test", held, 4)):
        for screen in sorted((data / "screens" / side).iterdir())[::every]:
            groups.append([screen])
        for page in sorted((data / "screens" / "pages" / side).glob("*.png"))[::every]:
            groups.append([page, page.with_suffix(".json")])
    number, used = 0, 0.0
    for filler in sorted(file for file in (data / "fillers").rglob("*") if file.is_file()):
        _copy(filler, data, out / "p0")
        used += filler.stat().st_size
    for group in (train[i] for k in range(7) for i in range(k, len(train), 7)):
        size = sum(file.stat().st_size * (0.55 if file.parent.name == "scenes" else 1) for file in group)
        if used + size > (others if number else first) * 1e6:
            number, used = number + 1, 0.0
        used += size
        for file in group:
            _copy(file, data, out / f"p{number}")
    for group in held:
        if sum(file.stat().st_size for file in group) <= LARGEST_HELD:
            for file in group:
                _copy(file, data, out / "held")
    for made in sorted(out.iterdir()):
        files = [file for file in made.rglob("*") if file.is_file()]
        print(f"{made.name}: {len(files)} files, {sum(file.stat().st_size for file in files) / 1e6:.1f} MB")


def _copy(file: Path, data: Path, out: Path) -> None:
    to = out / file.relative_to(data)
    to.parent.mkdir(parents=True, exist_ok=True)
    if file.parent.name != "scenes":
        shutil.copyfile(file, to)
        return
    with Image.open(file) as image:
        small = image.convert("RGB")
        small.thumbnail((SCENE, SCENE), Image.Resampling.LANCZOS)
        small.save(to.with_suffix(".jpg"), quality=SCENE_QUALITY, subsampling=0)


# ---- Forging --------------------------------------------------------------------------------------------------------


def stream_of(data: Path, pool: Path, seed: int) -> MadeStream:
    """The pictures that are forged of a folder."""
    side = "train" if (data / "screens" / "train").is_dir() else "test"
    there = [f"{data}/photos/{name}" for name in PHOTOS if (data / "photos" / name).is_dir()]
    fillers = [str(folder) for folder in sorted((data / "fillers").glob("*"))]
    text = MIX.format(data=data, side=side, photos=json.dumps(there)[1:-1], fillers=json.dumps(fillers)[1:-1])
    pool.mkdir(parents=True, exist_ok=True)
    mix = pool / "mix.yaml"
    mix.write_text(text if fillers else text.replace("      fillers: []\n", ""), encoding="utf-8")
    return MadeStream(load_mix(mix), "train", seed, recipe(), 128)


def forge(data: Path, pool: Path, workers: int, seed: int, pictures: int | None) -> None:
    """Write tiles into `pool`, a folder for each size, by so many processes; `done` in the end."""
    stream = stream_of(data.resolve(), pool, seed)
    there = stream.materials
    banks = {"photos": there.photos, "cameras": there.cameras, "screens": there.screens, "pages": there.pages}
    print(", ".join(f"{len(bank.paths) if bank else 0} {name}" for name, bank in banks.items()), flush=True)
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_forge, args=(stream, pool, number, workers, pictures)) for number in range(workers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    (pool / "done").touch()


def _forge(stream: MadeStream, pool: Path, worker: int, workers: int, pictures: int | None) -> None:
    os.nice(10)  # beside a training
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    started, number = time.monotonic(), worker
    waiting: dict[tuple[int, int, bool], list[TrainingSample]] = {}
    while pictures is None or number < pictures:
        try:
            made = list(stream._tiles(number))
        except EDIT_ERRORS as error:
            print(f"picture {number}: {error!r}"[:160], flush=True)
            made = []
        for _, sample, _ in made:
            height, width = sample.mask.shape
            key = (min(height, width), max(height, width), stream._kind(number)[0] in WHOLE)
            waiting.setdefault(key, []).append(sample)
            soon = pictures is not None or time.monotonic() - started < 60
            if len(waiting[key]) >= (TOGETHER // 3 if soon else TOGETHER):
                _write(pool, key, waiting.pop(key), f"{worker:02}-{number:07}")
        number += workers
    for key, samples in waiting.items():
        _write(pool, key, samples, f"{worker:02}-last")


def _write(pool: Path, key: tuple[int, int, bool], samples: Sequence[TrainingSample], name: str) -> None:
    height, width, whole = key
    folder = pool / f"{height}x{width}-{int(whole)}"
    folder.mkdir(parents=True, exist_ok=True)
    upright = [sample.mask.shape[0] > sample.mask.shape[1] for sample in samples]
    arrays: dict[str, Any] = {
        "pixels": np.stack(
            [s.pixels.transpose(2, *((1, 0) if up else (0, 1))) for s, up in zip(samples, upright, strict=True)]
        ),
        "masks": np.stack([s.mask.T if up else s.mask for s, up in zip(samples, upright, strict=True)]),
        "maps": np.stack(
            [_maps(s).transpose(0, 2, 1) if up else _maps(s) for s, up in zip(samples, upright, strict=True)]
        ),
        "kinds": np.array([s.source.split()[0] for s in samples]),
    }
    part = folder / f"{name}.part"
    with part.open("wb") as file:
        np.savez(file, **arrays)
    part.rename(folder / f"{name}.npz")


def _maps(sample: TrainingSample) -> NDArray[np.float16]:
    assert sample.matches is not None
    return sample.matches.astype(np.float16)


def read_tiles(path: Path) -> tuple[Tiles, NDArray[np.str_]]:
    """The tiles of a file of the pool, and the kind of each."""
    with np.load(path) as stored:
        pixels, masks, maps = (torch.from_numpy(stored[name]) for name in ("pixels", "masks", "maps"))
        return (pixels, masks, maps), stored["kinds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("--data", type=Path, required=True)
    packing.add_argument("--out", type=Path, required=True)
    packing.add_argument("--megabytes", type=float, nargs=2, default=(9, 54), help="of the first pack and of others")
    forging = commands.add_parser("forge")
    forging.add_argument("--data", type=Path, required=True)
    forging.add_argument("--pool", type=Path, required=True)
    forging.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    forging.add_argument("--seed", type=int, default=1)
    forging.add_argument("--pictures", type=int, help="how many, in all")
    args = parser.parse_args()
    if args.command == "pack":
        pack(args.data, args.out, *args.megabytes)
    else:
        forge(args.data, args.pool, args.workers, args.seed, args.pictures)


if __name__ == "__main__":
    main()
