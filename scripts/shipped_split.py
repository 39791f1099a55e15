"""The split of photos that the shipped weights were trained with, for scripts that measure these weights.

Held out are 8 % of the photos by a hash of their name, half of the cameras by a hash of their model, and those screens
and pages that other templates drew. It is not the split of `clue train`: figures of the shipped weights stand on photos
that they were not trained on.
"""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path

from model.data.materials import Materials
from model.data.source_photos import Size, SourcePhotos, find_source_photos
from model.images.pixels import read_pixels

PHOTOS = ("coco", "people", "web", "nature", "scenes")
CAMERAS = "cameras"
"""Folder of photos as cameras wrote them; the name of a file is the model of the camera."""
HELD_OUT = 0.08
LARGE_SIDE = 780
"""Pixels: photos that large pictures are made from have at least one side as long."""


def camera_model(path: Path) -> str:
    """The model of the camera that the name of a file says."""
    name = path.stem.removesuffix("_crop").removesuffix("_iptc")
    if name.startswith("sfm_"):  # a series of one camera
        return "_".join(name.split("_")[:2])
    return re.sub(r"_\d$", "", name)


def template(path: Path) -> str:
    """What a screen or a page was drawn by, from its name."""
    return path.stem.split("_")[0]


def held_out(path: Path) -> bool:
    """Whether a photo was held out: by its name alone."""
    name = hashlib.sha256(path.name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(name[:4], "big") / 2**32 < HELD_OUT


def photos(data: Path, *, validation: bool, folders: tuple[str, ...] = PHOTOS) -> SourcePhotos:
    """Photos from the web, with the masks of objects in them."""
    root = data / "photos"
    masks = [
        (root / "coco_instances", "train2017_"),
        (root / "coco_instances", "val2017_"),
        (root / "people_masks", ""),
    ]
    found = find_source_photos([root / name for name in folders if (root / name).is_dir()], masks)
    kept = [i for i, path in enumerate(found.paths) if held_out(path) == validation]
    return found.part(kept).checked(_decoded_size)


def held_out_materials(data: Path, screens: Path | None) -> Materials:
    """All that was held out.

    Args:
        data: holds photos/.
        screens: what make_screens.py wrote; None: there are none.
    """
    own = photos(data, validation=True)
    cameras = find_source_photos([data / "photos" / CAMERAS])
    kept = [i for i, p in enumerate(cameras.paths) if hashlib.sha256(camera_model(p).encode()).digest()[0] % 2 == 0]
    return Materials(
        photos=own,
        large=own.part([i for i, size in enumerate(own.sizes) if max(size) >= LARGE_SIDE]),
        cameras=cameras.part(kept).checked(_decoded_size),
        screens=_all_of(screens / "test") if screens else None,
        pages=_all_of(screens / "pages" / "test") if screens else None,
        names={"cameras": camera_model, "screens": template, "pages": template},
    )


def _all_of(folder: Path) -> SourcePhotos | None:
    return find_source_photos([folder]).checked(_decoded_size) if folder.is_dir() else None


def _decoded_size(path: Path) -> Size:
    height, width = read_pixels(path, math.inf).shape[:2]
    return height, width
