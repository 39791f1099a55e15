"""COCO: the marked regions as annotations, for annotation tools.

Each region is an annotation with `iscrowd` 0: `segmentation` are polygons along the edges of its pixels, in which holes
are cut out, and `rle` holds the same pixels as uncompressed run lengths. Decoded, either gives the mask again, pixel by
pixel. The category is the verdict on the image that the region is in.

An image whose mask cannot be read has no annotations and says so in `mask`. Failures are no images; `info` counts them.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from clue_cli.records import FailureRecord, ImageRecord, Question, Region, Verdict
from clue_cli.results.export import Source
from clue_cli.results.polygons import Part, parts

_CATEGORIES = {Verdict.FORGED: 1, Verdict.INCONCLUSIVE: 2, Verdict.NO_EVIDENCE: 3}
_PIECE = 1 << 20


def write(to: BinaryIO, records: Iterable[ImageRecord | FailureRecord], source: Source) -> None:
    """Write one JSON object. Annotations wait in a temporary file, so that memory does not grow with their number.

    Masks that are missing or damaged are noted in `source.missing`.
    """
    counts = {"images": 0, "annotations": 0, "failures": 0, "masks_missing_or_damaged": 0}
    with tempfile.TemporaryFile() as annotations, _any_size():
        to.write(b'{"images": [')
        for record in records:
            if isinstance(record, FailureRecord):
                counts["failures"] += 1
                continue
            counts["images"] += 1
            number, before = counts["images"], counts["annotations"]
            problem = None
            with source.picture(record.outputs.mask) as file:
                try:
                    for one in _annotations(record, file):
                        counts["annotations"] += 1
                        own = {"id": counts["annotations"], "image_id": number}
                        _put(annotations, own | one, first=counts["annotations"] == 1)
                except _NoMask as error:
                    problem = str(error)
            if problem is not None:
                counts["masks_missing_or_damaged"] += 1
                source.miss(f"mask {problem}", _file_name(record))
            _put(to, _image(record, number, counts["annotations"] - before, problem), first=number == 1)
        to.write(b'\n],\n"annotations": [')
        annotations.seek(0)
        while piece := annotations.read(_PIECE):
            to.write(piece)
        to.write(b'\n],\n"categories": ')
        to.write(_json([_category(verdict, number) for verdict, number in _CATEGORIES.items()]))
        to.write(b',\n"licenses": [],\n"info": ')
        to.write(_json(_info(source) | counts))
        to.write(b"}\n")


class _NoMask(Exception):
    """The mask cannot be read, or is another one; the message says how, as in `the mask …`."""


@contextmanager
def _any_size() -> Iterator[None]:
    """Without Pillow's own limit: a mask has the size that its record says, within a limit of ours."""
    from PIL import Image

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _annotations(record: ImageRecord, file: Path | None) -> Iterator[dict[str, Any]]:
    """One annotation for each region, without ids.

    Raises:
        _NoMask: before the first one.
    """
    from model.images.maps import LARGEST
    from model.images.masks import read_mask
    from model.images.pixels import DamagedFileError

    if file is None:
        raise _NoMask("is missing")
    size = record.height, record.width
    try:
        _check_file(record, file)
        mask = read_mask(file, max_megapixels=LARGEST, strict=True, size=size)
    except OSError as error:
        raise _NoMask(f"cannot be read: {error.strerror or 'damaged'}") from error
    except DamagedFileError as error:
        raise _NoMask("is damaged or too large") from error
    known = {_place_of(region): region for region in record.regions}
    for part in parts(mask):
        yield _annotation(record, part, known.get((part.x, part.y, part.width, part.height, part.area)))


def _check_file(record: ImageRecord, file: Path) -> None:
    """Raise _NoMask for a mask that is not whole, or not the one that the scan wrote; OSError if it cannot be read."""
    from clue_cli.results.whole_pictures import whole_png_size

    written = next((one.sha256 for one in record.written if one.output == "mask"), None)
    with file.open("rb") as stream:
        if written is not None and hashlib.file_digest(stream, "sha256").hexdigest() != written:
            raise _NoMask("has changed since the scan: it has another SHA-256")
    found = whole_png_size(file)
    if found is None:
        raise _NoMask("is damaged: not a whole PNG")
    if found != (record.width, record.height):
        raise _NoMask("has another size than its image")


def _annotation(record: ImageRecord, part: Part, region: Region | None) -> dict[str, Any]:
    polygons = [[int(number) for number in ring.ravel()] for ring in part.polygons()]
    found: dict[str, Any] = {
        "category_id": _CATEGORIES[record.verdict],
        "iscrowd": 0,
        "bbox": [part.x, part.y, part.width, part.height],
        "area": part.area,
        "segmentation": polygons,
        "rle": {"size": [record.height, record.width], "counts": part.counts(record.height, record.width)},
    }
    if region is not None:  # a record lists the 100 largest
        found |= {"score": region.mean_probability, "peak_probability": region.peak_probability}
    return found


def _place_of(region: Region) -> tuple[int, int, int, int, int]:
    box = region.box
    return box.x, box.y, box.width, box.height, region.area


def _image(record: ImageRecord, number: int, annotations: int, problem: str | None) -> dict[str, Any]:
    synthetic = record.verdicts.get(Question.SYNTHETIC)
    return {
        "id": number,
        "file_name": _file_name(record),
        "width": record.width,
        "height": record.height,
        "locator": record.locator,
        "page": record.page,
        "sha256": record.file.sha256,
        "verdict": record.verdict.value,
        "score": record.score,
        "confidence": record.confidence,
        "synthetic_verdict": None if synthetic is None else synthetic.verdict.value,
        "annotations": annotations,
        "mask": "read" if problem is None else problem,
        "run_id": record.run_id,
    }


def _file_name(record: ImageRecord) -> str:
    """The locator; of a further page of a file with its number from 0, as annotation tools tell images by this name."""
    return record.locator if record.page == 0 else f"{record.locator}#page={record.page}"


def _category(verdict: Verdict, number: int) -> dict[str, Any]:
    return {"id": number, "name": verdict.value, "supercategory": "marked_region"}


def _info(source: Source) -> dict[str, Any]:
    run = source.run
    return {
        "description": "Regions that clue marked. The category is the verdict on edited regions of the whole image; "
        "the score is the mean of the heatmap over the region.",
        "version": None if run is None else run.version,
        "date_created": None if run is None else run.started,
        "run_id": None if run is None else run.run_id,
        "selection": source.selection or "all records",
    }


def _put(to: BinaryIO, value: dict[str, Any], *, first: bool) -> None:
    to.write((b"\n" if first else b",\n") + _json(value))


def _json(value: object) -> bytes:
    return json.dumps(value, allow_nan=False).encode()
