"""The sample as a case: folders, archives, odd names and damage around the pictures, and the truth beside it.

The truth goes to the sibling `DIR-truth`, outside of the evidence, so that a scan of `DIR` does not meet the answers.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from clue_cli.errors import OutputError, UsageError
from clue_cli.sample.pictures import SOURCES, Picture, jpeg, pictures

MARKS = {"SOURCES.txt": "Sample evidence written by `clue sample`.", "truth.csv": "locator,page,label,"}
"""The first file in the evidence and in the truth, and how it begins: how an earlier sample is known again."""


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One image of the sample and the truth about it.

    Attributes:
        locator: where it is, below `DIR`.
        picture: what it is.
        page, page_count: which page from 0, of how many.
    """

    locator: str
    picture: Picture
    page: int = 0
    page_count: int = 1

    @property
    def mask_path(self) -> str:
        """Path of its mask below `DIR-truth`, with the page numbered if there are several."""
        return f"masks/{self.locator}" + (f".p{self.page:04d}.png" if self.page_count > 1 else ".png")


@dataclass(frozen=True, slots=True)
class Sample:
    """The whole sample in memory: file contents by path below `DIR` and below `DIR-truth`, and the images in it."""

    evidence: Mapping[str, bytes]
    truth: Mapping[str, bytes]
    exhibits: tuple[Exhibit, ...]


def _exif(orientation: int = 1, software: str | None = None, gps: bool = False) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Example Cameras"
    exif[ExifTags.Base.Model] = "Sample One"
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.DateTime] = "2024:05:02 09:30:00"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2024:05:01 18:20:10"
    if software is not None:
        exif[ExifTags.Base.Software] = software
    if gps:
        position = exif.get_ifd(ExifTags.IFD.GPSInfo)
        position.update({1: "N", 2: (28.0, 33.0, 43.0), 3: "W", 4: (80.0, 34.0, 38.0)})  # Launch Complex 40
    return exif


def _zip(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, (2024, 5, 1, 12, 0, 0)), data)
    return buffer.getvalue()


def _encode(pixels: NDArray[np.uint8], kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def _png(pixels: NDArray[np.uint8]) -> bytes:
    return _encode(pixels, "PNG", compress_level=6)


def build_sample() -> Sample:
    """The sample evidence, in memory.

    Raises:
        ClueError: scikit-image was installed without its photographs.
    """
    made = pictures()
    evidence: dict[str, bytes] = {"SOURCES.txt": _sources_text().encode()}
    exhibits: list[Exhibit] = []

    def add(path: str, name: str, data: bytes) -> None:
        evidence[path] = data
        exhibits.append(Exhibit(path, made[name]))

    def member(locator: str, name: str, quality: int) -> bytes:
        exhibits.append(Exhibit(locator, made[name]))
        return jpeg(made[name].pixels, quality)

    for path, name, quality in (
        ("authentic/astronaut.jpg", "astronaut", 95),
        ("authentic/cat.jpg", "cat", 85),
        ("authentic/coffee.jpg", "coffee", 75),
        ("authentic/launch.jpg", "launch", 60),
        ("spliced/cat at the table.jpg", "cat at the table", 92),
        ("spliced/helmet on gravel.jpg", "helmet on gravel", 90),
        ("copy-moved/two rockets.jpg", "two rockets", 93),
        ("copy-moved/second patch.jpg", "second patch", 90),
        ("removed/no rocket.jpg", "no rocket", 92),
        ("removed/no patch.jpg", "no patch", 90),
        ("odd names/<b>odd & name<b>.jpg", "more galaxies", 88),
        ("odd names/кот 写真 ünï.jpg", "cat", 70),
    ):
        add(path, name, jpeg(made[name].pixels, quality))
    add("authentic/fundus.png", "fundus", _png(made["fundus"].pixels))
    add("spliced/cup on gravel.png", "cup on gravel", _png(made["cup on gravel"].pixels))
    add("spliced/rocket in space.webp", "rocket in space", _encode(made["rocket in space"].pixels, "WEBP", quality=88))
    add("odd names/really a png.jpg", "cameraman", _png(made["cameraman"].pixels))

    # Stored turned by 90° to the left, with the EXIF note that says so: displayed as it was taken.
    turned = np.rot90(made["coffee"].pixels)
    add("DCIM/IMG_0001.jpg", "coffee", jpeg(turned, 90, _exif(orientation=6, gps=True)))
    add("DCIM/IMG_0002.jpg", "no spoon", jpeg(made["no spoon"].pixels, 91, _exif(software="Example Retouch 2.1")))

    pages = [made["cameraman"], made["second tower"]]
    evidence["documents/scan.tiff"] = _encode(
        pages[0].pixels,
        "TIFF",
        compression="tiff_deflate",
        save_all=True,
        append_images=[Image.fromarray(page.pixels) for page in pages[1:]],
    )
    exhibits += [Exhibit("documents/scan.tiff", page, number, len(pages)) for number, page in enumerate(pages)]

    evidence["export.zip"] = _zip(
        {
            "phone/cat.jpg": member("export.zip!/phone/cat.jpg", "cat at the table", 80),
            "phone/sky.jpg": member("export.zip!/phone/sky.jpg", "sky", 85),
            "older/backup.zip": _zip(
                {"patch.jpg": member("export.zip!/older/backup.zip!/patch.jpg", "second patch", 78)}
            ),
            "read me.txt": b"A text file: counted, not scanned.\n",
        }
    )

    whole = jpeg(made["launch"].pixels, 80)
    evidence["damaged/cut short.jpg"] = whole[: len(whole) * 6 // 10]
    evidence["damaged/header only.jpg"] = whole[: whole.index(b"\xff\xda")]  # ends before the first scan: no pixels
    return Sample(evidence, _truth(exhibits), tuple(exhibits))


def _sources_text() -> str:
    lines = [
        MARKS["SOURCES.txt"],
        "",
        "Made from photographs that scikit-image ships, all in the public domain or under CC0 1.0:",
        *(f"  {name}: {text}" for name, text in SOURCES.items()),
        "",
        "Folder names tell what was done; the sibling folder whose name ends in -truth has masks and a table.",
        "The camera, the dates and the position in the EXIF of DCIM/ are invented.",
        "The two files in damaged/ are meant to be damaged: of one, the rows that are left are examined.",
    ]
    return "\n".join(lines) + "\n"


def _truth(exhibits: list[Exhibit]) -> dict[str, bytes]:
    """`truth.csv` and the masks (0 or 255, as displayed), by path below `DIR-truth`."""
    found: dict[str, bytes] = {}
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["locator", "page", "label", "forged_area_ratio", "mask", "how", "sources"])
    for exhibit in exhibits:
        picture, mask_path, ratio = exhibit.picture, "", 0.0
        if picture.mask is not None:
            mask_path, ratio = exhibit.mask_path, float(picture.mask.mean())
            found[mask_path] = _png(np.where(picture.mask, np.uint8(255), np.uint8(0)))
        row = (exhibit.locator, exhibit.page, picture.label, f"{ratio:.6f}", mask_path, picture.how)
        writer.writerow([*row, " ".join(picture.sources)])
    return {"truth.csv": table.getvalue().encode(), **found}


def truth_folder(folder: Path) -> Path:
    """Where the truth about the sample in `folder` goes: its sibling `…-truth`."""
    folder = folder.resolve()
    return folder.with_name(f"{folder.name}-truth")


def _refuse_foreign(folder: Path, ours: Mapping[str, bytes]) -> None:
    """Raise UsageError if the folder holds anything that an earlier `clue sample` did not write."""
    advice = "Name a new or empty folder."
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder.", advice)
    mark = next(iter(ours))
    folders = {str(parent) for name in ours for parent in PurePosixPath(name).parents}
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder).as_posix()
        foreign = path.is_symlink() or below not in (folders if path.is_dir() else ours)
        if foreign or (below == mark and not path.read_bytes().startswith(MARKS[mark].encode())):
            raise UsageError(f"{folder} is not empty: {below!r} in it is no part of an earlier sample.", advice)


def write_sample(folder: Path) -> Sample:
    """Write the sample evidence into `folder` and the truth into its sibling `…-truth`; returns what was written.

    An earlier sample in the same place is written again.

    Raises:
        UsageError: one of the two folders holds other files, or is a file.
        OutputError: they cannot be written.
        ClueError: scikit-image was installed without its photographs.
    """
    sample = build_sample()
    places = ((folder.resolve(), sample.evidence), (truth_folder(folder), sample.truth))
    try:
        for root, contents in places:
            _refuse_foreign(root, contents)
        for root, contents in places:
            for name, data in contents.items():
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    except OSError as error:
        raise OutputError(f"The sample cannot be written: {error}.", "Name a folder that you may write to.") from error
    return sample
