"""The benchmark `made`: pictures made from photos, cameras and templates that the training of `mini` did not see.

    root/photos/{coco,people,web,nature,scenes}/       photos
    root/photos/{coco_instances,people_masks}/         masks of objects in them
    root/photos/cameras/                               photos as cameras wrote them, named by the camera's model
    root/screens/test/, root/screens/pages/test/       what `scripts/make_screens.py` writes

Held out are 8 % of the photos by a hash of their name, half of the cameras by a hash of their model, and the screens
and pages of other templates; it is not the split of `clue train`. The operating point, score and thresholds of `mini`
were fitted on the same untouched pictures and on other forgeries of the same photos. A few photos make many pictures,
so intervals are over photos, cameras and templates. Imports the extra `train`.
"""

from __future__ import annotations

import hashlib
import math
import re
import threading
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from model.data.made_pictures import MadePictures, Slot, small_regions
from model.data.materials import Materials
from model.data.source_photos import Size, SourcePhotos, find_source_photos
from model.datasets.sample import Sample
from model.evaluation.benchmarks import BenchmarkNotFound, Found
from model.evaluation.ground import Ground, MadeSample, ground
from model.images.pixels import DamagedFileError, Header, Pixels, read_pixels

SEED, PART = 79, 1
"""The operating point was fitted on pictures of seed 77 and the other half of the screens."""
COUNTS = {"native": 212, "web": 480, "copy_moves": 90, "splices": 110, "documents": 110}
SMALL_REGIONS = 240
PHOTOS = ("coco", "people", "web", "nature", "scenes")
HELD_OUT = 0.08
LARGE_SIDE = 780
"""Pixels: photos that large pictures are made from have at least one side as long."""

_MAKING = threading.Lock()
"""Photos that were decoded are kept and shared, which one thread at a time may do."""


def find_made(name: str, root: Path, scale: float = 1.0) -> Found:
    """The benchmark, with nothing made yet.

    Args:
        name: of the set in the results.
        scale: of the numbers of pictures that are not merely untouched.

    Raises:
        BenchmarkNotFound: no held-out photo is there.
    """
    materials = held_out_materials(root)
    if not materials.photos.paths:
        raise BenchmarkNotFound(f"{name} needs photos in {root / 'photos'}/{{{','.join(PHOTOS)}}}")
    huge = photos(root, validation=True, folders=("scenes",))
    counts = {group: round(count * scale) for group, count in COUNTS.items()}
    small = small_regions(huge, round(SMALL_REGIONS * scale)) if huge.paths else ()
    slots = chain(MadePictures(materials).slots(SEED, counts, PART), small)
    content = _digest(materials)
    samples: list[Sample] = [_sample(slot, root, content) for slot in slots]
    samples.sort(key=lambda sample: sample.key)
    return Found(name, "made from photos", root / "photos", None, samples, [], 0)


def photos(root: Path, *, validation: bool, folders: tuple[str, ...] = PHOTOS) -> SourcePhotos:
    """Photos from the web, with the masks of objects in them: those that were held out, or the others."""
    home = root / "photos"
    masks = [
        (home / "coco_instances", "train2017_"),
        (home / "coco_instances", "val2017_"),
        (home / "people_masks", ""),
    ]
    found = find_source_photos([home / name for name in folders if (home / name).is_dir()], masks)
    kept = [i for i, path in enumerate(found.paths) if held_out(path) == validation]
    return found.part(kept).checked(_decoded_size)


def held_out(path: Path) -> bool:
    """Whether a photo was held out: by its name alone."""
    name = hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(name[:4], "big") / 2**32 < HELD_OUT


def held_out_materials(root: Path) -> Materials:
    """All that was held out."""
    own, cameras = photos(root, validation=True), find_source_photos([root / "photos" / "cameras"])
    kept = [i for i, p in enumerate(cameras.paths) if hashlib.sha256(camera_model(p).encode()).digest()[0] % 2 == 0]
    return Materials(
        photos=own,
        large=own.part([i for i, size in enumerate(own.sizes) if max(size) >= LARGE_SIDE]),
        cameras=cameras.part(kept).checked(_decoded_size) if kept else None,
        screens=_all_of(root / "screens" / "test"),
        pages=_all_of(root / "screens" / "pages" / "test"),
        names={"cameras": camera_model, "screens": template, "pages": template},
    )


def camera_model(path: Path) -> str:
    """The model of the camera that the name of a file says."""
    name = path.stem.removesuffix("_crop").removesuffix("_iptc")
    if name.startswith("sfm_"):  # a series of one camera
        return "_".join(name.split("_")[:2])
    return re.sub(r"_\d$", "", name)


def template(path: Path) -> str:
    """What a screen or a page was drawn by, from its name."""
    return path.stem.split("_")[0]


def _sample(slot: Slot, root: Path, materials: str) -> MadeSample:
    content = hashlib.sha256(f"clue made picture 1\n{materials} {SEED} {slot.name}".encode()).hexdigest()
    image = root / slot.name
    masks = (image,) if slot.forged else ()
    make = partial(_made, slot, image)
    return MadeSample(slot.name, image, masks, slot.forged, part=slot.group, content=content, make=make)


def _made(slot: Slot, image: Path) -> tuple[Sample, Pixels, Ground]:
    with _MAKING:
        made = slot.make()
    if made is None:
        raise DamagedFileError("no edit succeeded on its photos")
    kind = made.kind.replace("_", "-") if made.forged else ""
    masks = (image,) if made.forged else ()
    sample = Sample(slot.name, image, masks, made.forged, kind, part=slot.group, source=made.source)
    height, width = made.mask.shape
    return sample, made.pixels, ground(sample, lambda _: made.mask, lambda _: Header(width, height, "made"))


def _digest(materials: Materials) -> str:
    """SHA-256, hex, over the names and file sizes of the photos, in their order."""
    total = hashlib.sha256()
    for path in _paths(materials):
        total.update(f"{path.parent.name!a}/{path.name!a} {path.stat().st_size}\n".encode())
    return total.hexdigest()


def _paths(materials: Materials) -> Iterator[Path]:
    for bank in (materials.photos, materials.cameras, materials.screens, materials.pages):
        if bank is not None:
            yield from bank.paths
            yield from (cutout.path for cutout in bank.cutouts)


def _all_of(folder: Path) -> SourcePhotos | None:
    return find_source_photos([folder]).checked(_decoded_size) if folder.is_dir() else None


def _decoded_size(path: Path) -> Size:
    height, width = read_pixels(path, math.inf).shape[:2]
    return height, width
