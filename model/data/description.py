"""What a dry run shows of a mix: how much there is, how large, how much of it forged, what is damaged; a contact sheet.

From headers alone most is known quickly. A file that was cut off half way shows only when it is decoded.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from model.config import legible
from model.data.made import MadeStream
from model.data.mix import EmptyMask, Forge, Masks, Mix, Source, Split, split_of
from model.data.source_photos import LARGEST_MASK, check_proportions, checked_size, of_split, photos_of
from model.data.sources import list_images, sample_mask
from model.data.stream import Stream, TrainingSample
from model.datasets.sample import Sample
from model.images.masks import Mask, check_mask_size, looks_inverted
from model.images.pixels import DamagedFileError, Pixels, opened, picture_size
from model.reporter import SILENT, Reporter
from model.whole_file import write_whole

AREA_EDGES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Edges of the histogram of forged area, shares of the picture. The first bin is for masks that mark nothing."""
OUTLINE = (255, 0, 160)
CAPTION = 14
"""Of the contact sheet: colour, RGB; height of the line below each sample, pixels."""
_SIDES: tuple[Split, ...] = ("train", "validation", "calibration")
_NAMES = ("smallest", "median", "largest")


@dataclass(slots=True)
class SourceDescription:
    """One source.

    Attributes:
        name, kind, weight: as in the mix.
        train, validation, calibration: number of images, or of photos to forge from.
        between_sides: images that are on no side, being made from photos of several.
        authentic: images without a mask.
        empty_masks: what the image of a mask that marks nothing counts as.
        cutouts: object masks of a `forge` source.
        sizes: smallest, median and largest width × height, as `[width, height]`.
        forged_area: number of masks in each bin of `AREA_EDGES`, of those that were decoded; bin 0: nothing.
        empty: the masks of bin 0.
        inverted: number of decoded masks that look as if black and white were exchanged.
        damaged: images, and object masks, that cannot be used, and why.
        problems: what else is left out, and why.
    """

    name: str
    kind: str
    weight: float
    train: int = 0
    validation: int = 0
    calibration: int = 0
    between_sides: int = 0
    authentic: int = 0
    empty_masks: EmptyMask = "authentic"
    cutouts: int = 0
    sizes: list[list[int]] = field(default_factory=list)
    forged_area: list[int] = field(default_factory=lambda: [0] * len(AREA_EDGES))
    empty: list[str] = field(default_factory=list)
    inverted: int = 0
    damaged: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def lines(self, most: int = 20) -> list[str]:
        """Everything in words, one printable line each; at most `most` damaged files and problems."""
        return [legible(line) for line in _lines(self, most)]


def forged_area_lines(stream: Stream | MadeStream) -> list[str]:
    """A histogram of forged area for each source of photos to forge from, as `Stream.forged_areas` draws them.

    Printable lines, in the form of `SourceDescription.lines`.
    """
    lines = []
    for name, areas in stream.forged_areas().items():
        bins = [0] * len(AREA_EDGES)
        for area in areas:
            bins[_bin(area)] += 1
        lines.append(f"{name}: forged area, of {len(areas)} pictures drawn from it{':' if areas else ''}")
        lines += _histogram(bins, "authentic")
    return [legible(line) for line in lines]


def describe(
    mix: Mix, most: int = 2000, *, decode: bool = False, reporter: Reporter = SILENT
) -> list[SourceDescription]:
    """Summarize the sources of a mix.

    Args:
        mix: the mix.
        most: masks of a source to decode, spread evenly over it; 0: all of them. The headers of all images and masks
            are read.
        decode: decode all images and masks instead: damage behind a header is found, which takes as long as reading
            everything once.
        reporter: receives a stage for each source.

    Raises:
        ConfigError: a list file or a named set that cannot be read.
    """
    return [_describe(mix, source, most, decode, reporter) for source in mix.sources]


def _describe(mix: Mix, source: Source, most: int, decode: bool, reporter: Reporter) -> SourceDescription:
    summary = SourceDescription(source.name, source.kind, source.weight)
    reading = source.masks
    summary.empty_masks = reading.empty_masks
    if isinstance(source.data, Forge):
        _look_at_photos(source.data, mix, summary, decode, reporter)
        return summary
    found = list_images(source)
    samples, summary.problems = found.samples, found.problems
    sides = Counter(split_of(sample, mix.validation) for sample in samples)
    for side in _SIDES:
        setattr(summary, side, sides[side])
    summary.between_sides = sides[None]
    masks = sum(bool(sample.masks) for sample in samples)
    summary.authentic = len(samples) - masks
    step = max(1, math.ceil(masks / most)) if most and not decode else 1
    _look_at(samples, reading, mix.max_megapixels, summary, step, decode, reporter)
    return summary


def _look_at_photos(data: Forge, mix: Mix, summary: SourceDescription, decode: bool, reporter: Reporter) -> None:
    """Read the headers of photos to forge from and of their object masks, or everything."""
    photos = photos_of(data)
    for side in _SIDES:
        setattr(summary, side, len(of_split(photos, side, mix.validation, data.photo).paths))
    own: list[list[Path]] = [[] for _ in photos.paths]
    for cutout in photos.cutouts:
        own[cutout.photo].append(cutout.path)
    summary.problems += photos.problems
    summary.authentic, summary.cutouts = len(photos.paths), len(photos.cutouts)
    if not photos.paths:
        summary.problems.append("no photo to forge from")
    read, sizes = _decoded_size if decode else picture_size, []
    reporter.stage(f"Reading {summary.name}", "photos", len(photos.paths))
    for photo, masks in zip(photos.paths, own, strict=True):
        try:
            size = checked_size(photo, mix.max_megapixels, read)
        except DamagedFileError as error:
            summary.damaged.append(str(error))
        else:
            sizes.append(size)
            for mask in masks:
                try:
                    check_proportions(mask, read(mask, LARGEST_MASK), size)
                except DamagedFileError as error:
                    summary.damaged.append(str(error))
        reporter.advance()
    summary.sizes = _sizes(sizes)


def _look_at(
    samples: list[Sample],
    reading: Masks,
    limit: float,
    summary: SourceDescription,
    step: int,
    decode: bool,
    reporter: Reporter,
) -> None:
    """Read the headers, or everything, and decode every `step`-th mask."""
    sizes: list[tuple[int, int]] = []
    masks = 0
    reporter.stage(f"Reading {summary.name}", "images", len(samples))
    for sample in samples:
        try:
            size = _decoded_size(sample.image, limit) if decode else picture_size(sample.image, limit)
            masks += bool(sample.masks)
            if sample.masks and masks % step == 0:
                mask = sample_mask(sample, reading, limit, size)
                assert mask is not None
                summary.forged_area[_bin(float(mask.mean()))] += 1
                summary.inverted += looks_inverted(mask)
                if not mask.any():
                    summary.empty.append(str(sample.masks[0]))
            elif not reading.fit_masks:
                for path in sample.masks:
                    if path.suffix != ".npz":  # arrays have no header
                        check_mask_size(path, picture_size(path, limit), size)
            sizes.append(size)
        except DamagedFileError as error:
            summary.damaged.append(str(error))
        reporter.advance()
    summary.sizes = _sizes(sizes)


def _sizes(found: list[tuple[int, int]]) -> list[list[int]]:
    """The smallest, the median and the largest (height, width), as `[width, height]`."""
    sizes = sorted(found, key=lambda size: size[0] * size[1])
    return [[w, h] for h, w in (sizes[0], sizes[len(sizes) // 2], sizes[-1])] if sizes else []


def _decoded_size(path: Path, limit: float) -> tuple[int, int]:
    size = picture_size(path, limit)
    with opened(path, limit) as image:
        image.load()
    return size


def _lines(summary: SourceDescription, most: int) -> list[str]:
    what = "photos to forge from" if summary.kind == "forge" else "images"
    count = sum(getattr(summary, side) for side in _SIDES)
    lines = [f"{summary.name} ({summary.kind}, weight {summary.weight:g}): {count} {what}"]
    lines.append("  " + ", ".join(f"{side} {getattr(summary, side)}" for side in _SIDES))
    if summary.between_sides:
        lines[-1] += f", left out {summary.between_sides} that were made from photos of several sides"
    if summary.kind == "forge":
        lines.append(f"  object masks {summary.cutouts}")
    else:
        lines.append(f"  authentic {summary.authentic}")
    if summary.sizes:
        lines.append("  sizes " + ", ".join(f"{n} {w}×{h}" for n, (w, h) in zip(_NAMES, summary.sizes, strict=True)))
    if any(summary.forged_area):
        lines.append(f"  forged area, of {sum(summary.forged_area)} masks:")
        lines += _histogram(summary.forged_area, "nothing")
    if summary.forged_area[0]:
        some = f"{summary.forged_area[0]} of {sum(summary.forged_area)} masks mark nothing"
        lines.append(f"  {some}: their images count as authentic (empty_masks)")
        lines += _list(summary.empty, most)
    if summary.inverted >= 3 and summary.inverted > sum(summary.forged_area) / 2:
        some = f"{summary.inverted} of {sum(summary.forged_area)} masks mark most of the image and of its border"
        lines.append(f"  warning: {some}; are black and white exchanged (inverted)?")
    lines += _some("damaged", summary.damaged, most)
    return lines + _some("left out", summary.problems, most)


def _bin(area: float) -> int:
    """In which bin of AREA_EDGES an area falls."""
    return int(np.searchsorted(AREA_EDGES, area, "left"))


def _histogram(counts: list[int], nothing: str) -> list[str]:
    """A line for each bin, the first one called as it is said; none where all are empty."""
    longest = max(counts)
    names = [nothing, *(f"{a:.1%} to {b:.1%}" for a, b in pairwise(AREA_EDGES))]
    return [
        f"    {name:>14} {count:7} {'█' * round(30 * count / longest)}".rstrip()
        for name, count in zip(names, counts, strict=True)
        if longest
    ]


def _some(title: str, lines: list[str], most: int) -> list[str]:
    return [f"  {title}: {len(lines)}", *_list(lines, most)] if lines else []


def _list(lines: list[str], most: int) -> list[str]:
    more = [f"    and {len(lines) - most} more"] if len(lines) > most else []
    return [*(f"    {line}" for line in lines[:most]), *more]


def contact_sheet(
    stream: Stream | MadeStream,
    path: Path,
    count: int = 48,
    columns: int = 8,
    side: int = 192,
    reporter: Reporter = SILENT,
) -> None:
    """Write a PNG of the first samples of a stream, each tinted where it is forged, its source below it.

    Args:
        stream: what to show.
        path: the PNG.
        count: number of samples.
        columns: samples in a row.
        side: longest side of a sample on the sheet, pixels.
        reporter: receives the number of samples drawn.

    Raises:
        DamagedFileError: no sample can be read.
        OSError: the file cannot be written.
    """
    batches = []
    reporter.stage("Drawing the contact sheet", "samples", count)
    for index in range(count):
        batches.append(stream.batch(index, 1))
        reporter.advance()
    samples = [sample for batch in batches for sample in batch.samples]
    if not samples:
        raise DamagedFileError(f"no image can be read; the last: {batches[-1].damaged[-1]}")
    write_sheet([(marked(s.pixels, s.mask), _caption(s)) for s in samples], path, columns, side)


def write_sheet(pictures: Sequence[tuple[Pixels, str]], path: Path, columns: int = 8, side: int = 192) -> None:
    """Write a PNG of pictures, H×W×3 uint8, in rows, each with a line of ASCII below it.

    Raises:
        OSError: the file cannot be written.
    """
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (side + 4), rows * (side + CAPTION + 4)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (pixels, caption) in enumerate(pictures):
        left, top = number % columns * (side + 4), number // columns * (side + CAPTION + 4)
        thumbnail = Image.fromarray(pixels)
        thumbnail.thumbnail((side, side))
        sheet.paste(thumbnail, (left, top))
        draw.text((left, top + thumbnail.height), caption, fill="black")
    write_whole(path, lambda part: sheet.save(part, "PNG"))


def marked(pixels: Pixels, mask: Mask) -> Pixels:
    """A copy of the pixels, H×W×3 uint8, tinted where the mask marks it, with a line of two pixels around.

    The tint shows which side of the line is forged.
    """
    grown = np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8))) > 0
    drawn = pixels.copy()
    drawn[mask] = (pixels[mask] * 0.6 + np.array(OUTLINE) * 0.4).astype(np.uint8)
    drawn[grown & ~mask] = OUTLINE
    return drawn


def _caption(sample: TrainingSample) -> str:
    area = f"{sample.mask.mean():.1%} forged" if sample.mask.any() else "authentic"
    name = legible(sample.source).encode("ascii", "replace").decode()
    return f"{name[:18]}: {area}"
