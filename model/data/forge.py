"""Forgeries made to measure: splices, copy-moves, removals, local edits, with the histories real ones have.

The trace that carries over from made forgeries to real ones is the difference of histories: the host was a JPEG
and is compressed again on the same grid, while what was put into it lost its grid, had another quality, or was
resampled. So every source gets a history of its own first, and the whole picture gets one afterwards.

The edits are in `splice`, `local_edit` and `document`; this module decides what is made of which photo, at which size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from model.data.document import document
from model.data.history import (
    Pixels,
    Published,
    Route,
    decode,
    encode_jpeg,
    first_quality,
    follow,
    jpeg,
    off_grid,
    resize,
    route_from,
    route_to,
)
from model.data.local_edit import local_edit, removal, resynthesis, text
from model.data.scene import PhotoSource, Scene, Tools
from model.data.shapes import LARGEST, Mask, smallest_area
from model.data.splice import copy_move, splice, splices

EDIT_ERRORS: tuple[type[Exception], ...] = (cv2.error, ArithmeticError, LookupError, MemoryError, ValueError)
"""What making one picture can raise on a photo that nobody foresaw: the picture is lost by it, not the run. OpenCV
refuses a size or a type (no memory, too, is `cv2.error`), a range is empty, a region has no pixel, a picture is too
large to be saved in a format. Whatever else is raised is a defect, and ends the run."""
LONGEST_REASON = 300
"""Characters."""
KINDS = ("authentic", "splice", "copy_move", "removal", "local_edit")
SHARES = (0.20, 0.40, 0.24, 0.08, 0.08)
EDITS: dict[str, Callable[[Scene], tuple[Pixels, Mask]]] = {
    "splice": splice,
    "copy_move": copy_move,
    "removal": removal,
    "local_edit": local_edit,
    "resynthesis": resynthesis,
    "text": text,
    "splices": splices,
    "document": document,
}
"""What `kind` may ask for beside `authentic`. Those from the fifth on are never drawn, only asked for: local edits
alone, splices of several pieces, and words changed in a picture of a page."""

ATTEMPTS = 8
JPEG_SUFFIXES = {".jpg", ".jpeg"}
TEXTBOOK_SMALLEST = 0.004
"""Share of the picture that the smallest region of `forge_plainly` covers."""


@dataclass(slots=True)
class Forgery:
    """One sample: pixels H×W×3 uint8, mask H×W bool (True = forged), and what was done.

    Attributes:
        kind: `authentic` or one of EDITS.
        steps: what was done, in words, in order.
        photos: numbers of the photos in it, the host's first.
        jpeg: the file, if the last step was a JPEG; it decodes to exactly these pixels.
    """

    pixels: Pixels
    mask: Mask
    kind: str
    steps: list[str] = field(default_factory=list)
    photos: list[int] = field(default_factory=list)
    jpeg: bytes | None = None


def forge(
    bank: PhotoSource,
    rng: np.random.Generator,
    height: int,
    width: int,
    kind: str | None = None,
    *,
    largest: float = LARGEST,
    tools: Tools | None = None,
) -> Forgery:
    """One forgery, or authentic picture, of height × width pixels. The same generator state, the same sample.

    Args:
        bank: the photos.
        rng: everything random is drawn from it.
        kind: `authentic` or one of EDITS; None draws one of KINDS with SHARES.
        largest: share of the picture that the largest region covers; a piece of another photo that keeps its own
            size may cover more.
        tools: models that the user has.

    Returns:
        A forgery of that kind; an authentic picture if none succeeded, as with photos of one colour.

    Raises:
        ValueError: no such kind.
    """
    kind = kind or str(rng.choice(KINDS, p=SHARES))
    _check(kind)
    for _ in range(ATTEMPTS):
        route = route_to((height, width), rng)
        steps: list[str] = []
        pixels, number = _crop(bank, rng, *route.edited, steps)
        host = _with_history(pixels, rng, steps)
        smallest = smallest_area(height, width)
        scene = Scene(bank, rng, host, steps, [number], smallest=smallest, largest=largest, tools=tools or Tools())
        made = _edited(scene, kind, route)
        if made is not None:
            return made
    return forge(bank, rng, height, width, "authentic")


def forge_photo(
    bank: PhotoSource, rng: np.random.Generator, number: int, kind: str | None = None, *, tools: Tools | None = None
) -> Forgery:
    """The same from a whole photo at its own resolution, which only a resizing afterwards changes.

    A photo that comes as a JPEG keeps the history it has, most of the time. Edits prefer objects of the photo itself
    where the bank has outlines of them.

    Args:
        number: which photo is the host.
        bank, rng, kind, tools, and what is returned and raised: as for `forge`.
    """
    kind = kind or str(rng.choice(KINDS, p=SHARES))
    _check(kind)
    photo = bank.photo(number)
    objects = [cutout for cutout in bank.cutouts if cutout.photo == number]
    kept = Path(bank.paths[number]).suffix.lower() in JPEG_SUFFIXES
    for _ in range(ATTEMPTS):
        route = route_from((photo.shape[0], photo.shape[1]), rng)
        steps: list[str] = []
        host = photo if kept and rng.random() < 0.7 else _with_history(photo, rng, steps)
        smallest = smallest_area(*route.published)
        scene = Scene(bank, rng, host, steps, [number], objects, smallest, tools=tools or Tools())
        made = _edited(scene, kind, route)
        if made is not None:
            return made
    return forge_photo(bank, rng, number, "authentic")


RECOMPRESSED, SAVED_AGAIN, LOSSLESS = 0.25, 0.5, 0.15
"""Of `forge_native`: hosts that were compressed once more before, authentic pictures that were saved as edited ones
are, and pictures saved without loss."""


def forge_native(
    bank: PhotoSource,
    rng: np.random.Generator,
    height: int,
    width: int,
    kind: str,
    *,
    number: int | None = None,
    tools: Tools | None = None,
) -> Forgery:
    """The same from a piece of a photo as its camera wrote it: decoded, edited, and saved once, as an editor does.

    The piece is cut on the grid of the photo's own JPEG and is never resized. Half of the authentic ones are saved
    again, the others stay as they are.

    Args:
        bank, rng, kind, tools, and what is returned: as for `forge`.
        height, width: of the piece, pixels; of the whole photo where that is smaller.
        number: which photo is the host; None draws one.

    Raises:
        ValueError: no such kind.
    """
    _check(kind)
    for _ in range(ATTEMPTS):
        own = int(rng.integers(len(bank.paths))) if number is None else number
        photo = bank.photo(own)
        top, left = (
            int(rng.integers(max(0, a - b) // 8 + 1)) * 8 for a, b in zip(photo.shape[:2], (height, width), strict=True)
        )
        host = np.ascontiguousarray(photo[top : top + height, left : left + width])
        steps: list[str] = []
        if rng.random() < RECOMPRESSED:
            quality = first_quality(rng)
            host = jpeg(host, rng, quality)
            steps.append(f"jpeg {quality:.0f}")
        smallest = smallest_area(host.shape[0], host.shape[1])
        scene = Scene(bank, rng, host, steps, [own], smallest=smallest, tools=tools or Tools())
        edited, mask = host, np.zeros(host.shape[:2], bool)
        if kind != "authentic":
            edited, mask = EDITS[kind](scene)
            if not _visible(host, edited, mask):
                continue
        saved = Published(edited, [])
        if kind != "authentic" or rng.random() < SAVED_AGAIN:
            saved = _saved(edited, rng)
        pixels, mask = np.ascontiguousarray(saved.pixels), np.ascontiguousarray(mask)
        return Forgery(pixels, mask, kind, scene.steps + saved.steps, scene.used, saved.jpeg)
    return forge_native(bank, rng, height, width, "authentic", number=number)


def _saved(pixels: Pixels, rng: np.random.Generator) -> Published:
    """As an editor saves: mostly a JPEG of high quality."""
    if rng.random() < LOSSLESS:
        return Published(pixels, [])
    quality = float(rng.uniform(90, 100) if rng.random() < 0.6 else rng.uniform(65, 95))
    data = encode_jpeg(pixels, rng, quality)
    return Published(decode(data), [f"jpeg {quality:.0f}"], data)


def forge_plainly(
    bank: PhotoSource,
    rng: np.random.Generator,
    height: int,
    width: int,
    *,
    smallest: float = TEXTBOOK_SMALLEST,
    largest: float = LARGEST,
) -> Forgery:
    """The textbook case: a host that was a JPEG, edited, and compressed again on the same grid.

    The second compression is as often coarser than the first as it is finer: what people publish is rarely larger
    than what they took, and a network that only knows the finer case finds nothing in the other.

    Splice, copy-move or authentic. A network that starts with these finds the trace of double quantization within
    hundreds of samples, and has something to hold on to when the harder ones come.

    Args:
        bank, rng, height, width, and what is returned: as for `forge`.
        smallest, largest: share of the picture that the smallest and the largest region cover.
    """
    kind = str(rng.choice(["authentic", "splice", "copy_move"], p=[0.2, 0.52, 0.28]))
    for _ in range(ATTEMPTS):
        before, after = float(rng.uniform(55, 97)), float(rng.uniform(60, 98.5))
        steps = [f"jpeg {before:.0f}"]
        pixels, number = _crop(bank, rng, height, width, steps)
        host = jpeg(pixels, rng, before)
        scene = Scene(bank, rng, host, steps, [number], smallest=smallest, largest=largest, plain=True)
        edited, mask = host, np.zeros((height, width), bool)
        if kind != "authentic":
            edited, mask = EDITS[kind](scene)
            if mask.mean() < smallest or not _visible(host, edited, mask):
                continue
        steps.append(f"jpeg {after:.0f}")
        data = encode_jpeg(edited, rng, after)
        return Forgery(decode(data), np.ascontiguousarray(mask), kind, steps, scene.used, data)
    return forge(bank, rng, height, width, "authentic")


def _check(kind: str) -> None:
    if kind != "authentic" and kind not in EDITS:
        raise ValueError(f"no kind of forgery: {kind!r}; expected authentic, {', '.join(EDITS)}")


def _edited(scene: Scene, kind: str, route: Route) -> Forgery | None:
    """The host edited and published; None if the edit left nothing worth finding."""
    edited, mask = scene.host, np.zeros(scene.host.shape[:2], bool)
    if kind != "authentic":
        edited, mask = EDITS[kind](scene)
        if not _visible(scene.host, edited, mask):
            return None
    published, mask = follow(route, edited, mask, scene.rng)
    if kind != "authentic" and mask.sum() < 16:  # a screenshot cut it off, or shrinking swallowed it
        return None
    pixels, steps = np.ascontiguousarray(published.pixels), scene.steps + published.steps
    return Forgery(pixels, np.ascontiguousarray(mask), kind, steps, scene.used, published.jpeg)


def _visible(host: Pixels, edited: Pixels, mask: Mask) -> bool:
    """Whether the edit changed anything worth finding (a copy of blue sky into blue sky does not)."""
    if not 16 <= mask.sum() <= 0.75 * mask.size:
        return False
    return float(np.abs(host[mask].astype(np.int16) - edited[mask]).mean()) > 2.0


def _crop(bank: PhotoSource, rng: np.random.Generator, height: int, width: int, steps: list[str]) -> tuple[Pixels, int]:
    """A piece of a random photo at a random scale, and the photo's number.

    Shrinking removes most of what the file's own JPEG left.
    """
    number = int(rng.integers(len(bank.paths)))
    photo = bank.photo(number)
    if rng.random() < 0.5:
        photo = photo[:, ::-1]
    fit = max(height / photo.shape[0], width / photo.shape[1])  # the smallest scale that covers the canvas
    if fit <= 1.0 and rng.random() < 0.15:
        scale = 1.0
    else:
        scale = fit * float(np.exp(rng.uniform(0, np.log(max(1.05, min(1.0 / fit, 3.0))))))
        size = (max(width, round(photo.shape[1] * scale)), max(height, round(photo.shape[0] * scale)))
        photo = resize(photo, *size, rng)
        steps.append(f"photo scaled by {scale:.2f}")
    top = int(rng.integers(photo.shape[0] - height + 1))
    left = int(rng.integers(photo.shape[1] - width + 1))
    if scale == 1.0:
        top, left = top // 8 * 8, left // 8 * 8
    return np.ascontiguousarray(photo[top : top + height, left : left + width]), number


def _with_history(pixels: Pixels, rng: np.random.Generator, steps: list[str]) -> Pixels:
    """The picture as it was before anybody edited it: usually a JPEG, usually with its grid at the corner."""
    if rng.random() < 0.12:
        return pixels
    quality = first_quality(rng)
    steps.append(f"jpeg {quality:.0f}")
    if rng.random() < 0.85:
        return jpeg(pixels, rng, quality)
    top, left = (int(v) for v in rng.integers(0, 8, 2))
    return off_grid(pixels, rng, quality, top, left)


def reason(error: Exception) -> str:
    """What was raised, on one line."""
    name = "OpenCV" if isinstance(error, cv2.error) else type(error).__name__
    said = " ".join(str(error).split())
    return f"{name}: {said}"[:LONGEST_REASON] if said else name
