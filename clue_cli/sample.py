"""Sample evidence with known answers, made from photographs that scikit-image ships.

`write_sample(DIR)` writes a small case into `DIR`: folders, archives, odd names and damage around the pictures. What
was done to each image goes to the sibling `DIR-truth`, so that a scan of `DIR` does not meet the answers. Nothing is
downloaded, and the same library versions write the same bytes.

The forgeries imitate how forgeries come about: a host that has been a JPEG before, an object from a picture with
another history, soft seams. Only photographs in the public domain or under CC0 are used (`SOURCES`), as
scikit-image's documentation of `skimage.data` states it.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageDraw
from scipy.ndimage import gaussian_filter
from skimage.restoration import inpaint_biharmonic

from clue_cli.errors import ClueError, OutputError, UsageError

Pixels = NDArray[np.uint8]  # H×W×3
Mask = NDArray[np.bool_]  # H×W, true where the image was edited
Shape = tuple[str, tuple[int, ...]]  # ImageDraw's "ellipse" (x0, y0, x1, y1) or "polygon" (x, y, x, y, …)

SOURCES = {
    "astronaut.png": "Eileen Collins, NASA. Public domain.",
    "camera.png": "Photograph by Lav Varshney. CC0.",
    "chelsea.png": "Chelsea the cat, photograph by Stefan van der Walt. CC0.",
    "coffee.png": "Photograph by Rachel Michetti, courtesy of Pikolo Espresso Bar. CC0.",
    "gravel.png": "Gravel04 of cc0textures.com. CC0.",
    "hubble_deep_field.jpg": "Hubble eXtreme Deep Field, NASA. Public domain.",
    "retina.jpg": "Fundus photograph by Mikael Häggström. CC0.",
    "rocket.jpg": "Falcon 9 with DSCOVR, SpaceX. Public domain.",
}


MARKS = {"SOURCES.txt": "Sample evidence written by `clue sample`.", "truth.csv": "locator,page,label,"}
"""The first file in the evidence and in the truth, and how it begins: how an earlier sample is known again."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One image and the truth about it.

    Attributes:
        pixels: H×W×3 uint8, as displayed.
        label: `authentic`, `spliced`, `copy-moved` or `removed`.
        how: what was done, in words.
        sources: the keys of `SOURCES` it was made from.
        mask: H×W, true where it was edited; None if authentic.
    """

    pixels: Pixels
    label: str
    how: str
    sources: tuple[str, ...]
    mask: Mask | None = None


def _source(name: str) -> Pixels:
    path = files("skimage") / "data" / name
    if not path.is_file():
        raise ClueError(f"scikit-image comes without its photograph {name}.", "Install scikit-image with pip.")
    with path.open("rb") as file, Image.open(file) as image:
        return np.array(image.convert("RGB"))


def _encode(pixels: NDArray[np.uint8], kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def _jpeg(pixels: Pixels, quality: int, exif: Image.Exif | None = None) -> bytes:
    """The pixels as a JPEG file of this quality (1 to 100)."""
    return _encode(pixels, "JPEG", quality=quality, **({} if exif is None else {"exif": exif.tobytes()}))


def _after_jpeg(pixels: Pixels, quality: int) -> Pixels:
    """The pixels after one JPEG compression: the history that a host brings along."""
    with Image.open(io.BytesIO(_jpeg(pixels, quality))) as image:
        return np.array(image)


def _draw(like: Pixels, *shapes: Shape) -> Mask:
    """The union of the shapes as a mask of `like`'s height and width."""
    image = Image.new("L", (like.shape[1], like.shape[0]))
    draw = ImageDraw.Draw(image)
    for kind, xy in shapes:
        getattr(draw, kind)(xy, fill=1)
    return np.array(image) > 0


def _shift(array: NDArray[np.generic], dx: int, dy: int, height: int, width: int) -> NDArray[np.generic]:
    """A height×width canvas of zeros with the array laid at (dx, dy), cut at the borders."""
    canvas = np.zeros((height, width, *array.shape[2:]), array.dtype)
    top, left = max(dy, 0), max(dx, 0)
    part = array[top - dy : height - dy, left - dx : width - dx]
    canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
    return canvas


def _paste(host: Pixels, donor: Pixels, mask: Mask, dx: int, dy: int) -> tuple[Pixels, Mask]:
    """The masked part of the donor laid over the host, moved by (dx, dy) pixels, with a seam of about two pixels."""
    height, width = host.shape[:2]
    moved = np.asarray(_shift(mask, dx, dy, height, width), dtype=np.bool_)
    alpha = gaussian_filter(moved.astype(np.float64), 0.8)[..., None]
    blend = (1 - alpha) * host + alpha * _shift(donor, dx, dy, height, width).astype(np.float64)
    return blend.round().astype(np.uint8), moved


def _splice(host: str, donor: str, *shapes: Shape, at: tuple[int, int], quality: int, scale: float = 1.0) -> Picture:
    """An object of one photograph in another. `quality`: of the JPEG the host was; `scale`: of the object."""
    base, other = _after_jpeg(_source(host), quality), _source(donor)
    mask = _draw(other, *shapes)
    if scale != 1.0:
        size = (round(other.shape[1] * scale), round(other.shape[0] * scale))
        other = np.array(Image.fromarray(other).resize(size, Image.Resampling.LANCZOS))
        mask = np.array(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)) > 0
    pixels, moved = _paste(base, other, mask, *at)
    return Picture(pixels, "spliced", f"part of {donor} pasted into {host}", (host, donor), moved)


def _copy_move(name: str, *shapes: Shape, by: tuple[int, int], quality: int) -> Picture:
    """A part of a photograph repeated elsewhere in it, `by` (dx, dy) pixels."""
    base = _after_jpeg(_source(name), quality)
    pixels, moved = _paste(base, base, _draw(base, *shapes), *by)
    return Picture(pixels, "copy-moved", f"part of {name} repeated {by[0]:+d}, {by[1]:+d} pixels away", (name,), moved)


def _clone_out(name: str, *shapes: Shape, by: tuple[int, int], quality: int) -> Picture:
    """An object covered with its surroundings, taken from `by` (dx, dy) pixels away: the clone stamp."""
    base = _after_jpeg(_source(name), quality)
    mask = _draw(base, *shapes)
    height, width = mask.shape
    pixels, moved = _paste(base, base, np.asarray(_shift(mask, *by, height, width), np.bool_), -by[0], -by[1])
    return Picture(pixels, "removed", f"object in {name} covered with the background beside it", (name,), moved)


def _inpaint(name: str, *shapes: Shape, quality: int, grain: float = 2.0) -> Picture:
    """An object filled in smoothly from its border, with a little grain (grey levels) so that it does not look flat."""
    base = _after_jpeg(_source(name), quality)
    mask = _draw(base, *shapes)
    filled = inpaint_biharmonic(base, mask, channel_axis=-1) * 255.0
    noise = np.random.default_rng(0).normal(0.0, grain, mask.shape)[..., None]
    pixels = np.where(mask[..., None], np.clip(filled + noise, 0, 255).round(), base).astype(np.uint8)
    return Picture(pixels, "removed", f"object in {name} filled in from its surroundings", (name,), mask)


def _authentic(name: str, box: tuple[int, int, int, int] | None = None) -> Picture:
    pixels = _source(name)
    if box is not None:
        left, top, right, bottom = box
        pixels = pixels[top:bottom, left:right]
    return Picture(
        pixels, "authentic", f"{name}, not edited" if box is None else f"{name}, cropped, not edited", (name,)
    )


ROCKET: Shape = ("polygon", (321, 124, 331, 148, 333, 180, 335, 245, 335, 404, 309, 404, 309, 180, 311, 148))
CUP: tuple[Shape, ...] = (("ellipse", (78, 28, 478, 384)), ("ellipse", (170, 16, 404, 190)))


@cache
def pictures() -> Mapping[str, Picture]:
    """Every picture of the sample by a short name.

    Raises:
        ClueError: scikit-image was installed without its photographs.
    """
    return {
        "astronaut": _authentic("astronaut.png"),
        "cat": _authentic("chelsea.png"),
        "coffee": _authentic("coffee.png"),
        "launch": _authentic("rocket.jpg"),
        "sky": _authentic("hubble_deep_field.jpg"),
        "fundus": _authentic("retina.jpg", (100, 100, 868, 868)),
        "cameraman": _authentic("camera.png"),
        "cat at the table": _splice(
            "coffee.png", "chelsea.png", ("ellipse", (70, 2, 390, 292)), at=(412, 227), quality=72, scale=0.55
        ),
        "rocket in space": _splice("hubble_deep_field.jpg", "rocket.jpg", ROCKET, at=(243, 171), quality=80),
        "cup on gravel": _splice("gravel.png", "coffee.png", *CUP, at=(75, 130), quality=75, scale=0.75),
        "helmet on gravel": _splice(
            "gravel.png", "astronaut.png", ("ellipse", (283, 343, 497, 560)), at=(-140, 0), quality=65
        ),
        "two rockets": _copy_move("rocket.jpg", ROCKET, by=(67, 5), quality=78),
        "second patch": _copy_move("astronaut.png", ("ellipse", (133, 348, 209, 424)), by=(-61, -93), quality=82),
        "more galaxies": _copy_move(
            "hubble_deep_field.jpg", ("ellipse", (692, 436, 764, 508)), by=(141, 133), quality=75
        ),
        "second tower": _copy_move(
            "camera.png", ("polygon", (403, 112, 437, 112, 437, 186, 403, 186)), by=(-69, 2), quality=70
        ),
        "no rocket": _clone_out(
            "rocket.jpg", ("polygon", (302, 112, 342, 112, 342, 386, 302, 386)), by=(-53, 0), quality=74
        ),
        "no spoon": _inpaint("coffee.png", ("ellipse", (320, 232, 410, 330)), quality=80),
        "no patch": _inpaint("astronaut.png", ("ellipse", (129, 344, 213, 428)), quality=76),
    }


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
        return _jpeg(made[name].pixels, quality)

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
        add(path, name, _jpeg(made[name].pixels, quality))
    add("authentic/fundus.png", "fundus", _png(made["fundus"].pixels))
    add("spliced/cup on gravel.png", "cup on gravel", _png(made["cup on gravel"].pixels))
    add("spliced/rocket in space.webp", "rocket in space", _encode(made["rocket in space"].pixels, "WEBP", quality=88))
    add("odd names/really a png.jpg", "cameraman", _png(made["cameraman"].pixels))

    # Stored turned by 90° to the left, with the EXIF note that says so: displayed as it was taken.
    turned = np.rot90(made["coffee"].pixels)
    add("DCIM/IMG_0001.jpg", "coffee", _jpeg(turned, 90, _exif(orientation=6, gps=True)))
    add("DCIM/IMG_0002.jpg", "no spoon", _jpeg(made["no spoon"].pixels, 91, _exif(software="Example Retouch 2.1")))

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

    whole = _jpeg(made["launch"].pixels, 80)
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
