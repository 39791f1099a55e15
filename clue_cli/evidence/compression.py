"""What the compression of a JPEG tells: whose quantization tables it has, and whether it was compressed before.

Quantization tables are compared with those of libjpeg at each quality (ITU-T T.81, annex K, scaled) and of Photoshop.
An earlier compression is searched for as Lukáš and Fridrich (2003) do: the coefficients that the file would have
without it are estimated from the picture shifted by half a block, and compressed once and twice; which of the two is
closer to the coefficients that the file has is a likelihood ratio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegPresets

from clue_cli.records import Finding, Origin, Weight

Table = tuple[int, ...]
"""64 quantization steps, row by row."""

COMPRESSED_TWICE = "compressed_twice"
"""Kind of the finding about an earlier compression."""

SIDE = 512
"""Pixels. An earlier compression is searched for in a square of this side in the middle of the picture."""
GAIN = 0.012
"""Mean gain in log-likelihood of a coefficient from which a file counts as compressed twice. It was chosen on 58 photos
compressed once, where the largest gain is 0.008; on 58 others one of 290 files is above it
(`scripts/measure_resaved.py`)."""

_MODES = ((0, 1), (1, 0), (1, 1), (2, 0), (0, 2), (2, 1), (1, 2), (3, 0), (0, 3))
"""Frequencies (row, column) whose histograms are compared; higher ones are mostly zero."""
_FEWEST_MODES, _FEWEST_VALUES = 3, 200
_EARLIER = range(2, 41)
"""Quantization steps of an earlier compression that are tried."""
_LARGEST = 14
"""Quantized coefficients of a larger magnitude are left out."""


def compression_findings(image: Image.Image, rgb: Image.Image, camera: bool = False) -> list[Finding]:
    """Findings about the compression of a JPEG.

    Args:
        image: the opened file, which has the tables.
        rgb: its pixels as stored.
        camera: whether its EXIF names a camera and no program.
    """
    tables: Mapping[int, Sequence[int]] = getattr(image, "quantization", {})
    layers: Sequence[tuple[int, int, int, int]] = getattr(image, "layer", ())
    if not tables or any(len(table) != 64 for table in tables.values()) or not layers:
        return []
    used = [tuple(tables[layer[3]]) for layer in layers if layer[3] in tables]
    if not used:
        return []
    return [_tables(used, _subsampling(layers), camera), *_earlier(used[0], rgb)]


def _tables(used: Sequence[Table], subsampling: str, camera: bool) -> Finding:
    luma, chroma = used[0], used[1] if len(used) > 1 else None
    qualities = [q for q in (_standard_quality(table, kind) for table, kind in zip(used[:2], _STANDARD)) if q]  # noqa: B905
    weight = Weight.INFORMATION
    data: dict[str, str | int | float | bool | None] = {
        "luma_mean": round(sum(luma) / 64, 2),
        "chroma_mean": round(sum(chroma) / 64, 2) if chroma else None,
        "subsampling": subsampling,
    }
    tail = f", colour {subsampling}" if subsampling else ""
    if len(qualities) == len(used[:2]) and len(set(qualities)) == 1:
        data["quality"] = qualities[0]
        statement = (
            f"Its quantization tables are the standard ones at quality {qualities[0]}{tail}: written by most programs, "
            "web sites and messengers, and by some cameras."
        )
    elif name := _photoshop(luma, chroma):
        data["program"] = f"Photoshop, {name}"
        statement = (
            f"Its quantization tables are those of Photoshop's setting {name}{tail}: it was saved by Photoshop, or by "
            "a program that copies these tables."
        )
        if camera:
            statement += " EXIF names a camera and no program: what saved the file left no name there."
            weight = Weight.SUPPORTS_EDIT
    else:
        statement = (
            f"Its quantization tables are not the standard ones (mean step {data['luma_mean']:g} of luminance{tail}): "
            "many cameras have tables of their own, and so have some programs."
        )
    return Finding(kind="quantization_tables", source=Origin.FILE, statement=statement, data=data, weight=weight)


def _subsampling(layers: Sequence[tuple[int, int, int, int]]) -> str:
    """Of chroma, in the usual notation; empty for grey pictures and for what has no name."""
    if len(layers) != 3 or any(layer[1:3] != (1, 1) for layer in layers[1:]):
        return ""
    return {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0", (4, 1): "4:1:1"}.get(layers[0][1:3], "")


_STANDARD: tuple[Table, Table] = (
    (16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29,
     51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120,
     101, 72, 92, 95, 98, 112, 100, 103, 99),
    (17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66,
     *[99] * 38),
)  # fmt: skip


@cache
def _scaled(kind: Table) -> dict[Table, int]:
    """The standard table at every quality, as libjpeg scales it."""
    found: dict[Table, int] = {}
    for quality in range(1, 101):
        scale = 5000 // quality if quality < 50 else 200 - 2 * quality
        found.setdefault(tuple(min(255, max(1, (step * scale + 50) // 100)) for step in kind), quality)
    return found


def _standard_quality(table: Table, kind: Table) -> int | None:
    return _scaled(kind).get(table)


@cache
def _photoshop_tables() -> dict[tuple[Table, ...], str]:
    """Pillow's presets, which are Photoshop's tables; theirs are in the same order as `quantization`."""
    found: dict[tuple[Table, ...], str] = {}
    for name, preset in JpegPresets.presets.items():
        if name.startswith("web_") or name in ("low", "medium", "high", "maximum"):
            tables = cast("Sequence[Sequence[int]]", preset["quantization"])
            shown = name.replace("web_", "Save for Web, ").replace("_", " ")
            found[tuple(tuple(table) for table in tables)] = shown
    return found


def _photoshop(luma: Table, chroma: Table | None) -> str | None:
    return _photoshop_tables().get((luma, chroma)) if chroma else None


class Earlier(NamedTuple):
    """An earlier compression.

    Attributes:
        gain: median over frequencies of the mean gain in log-likelihood of a coefficient.
        step: the median quantization step of the earlier compression, and
        now: of the file, over the frequencies where it shows.
    """

    gain: float
    step: int
    now: int


def _earlier(table: Table, rgb: Image.Image) -> list[Finding]:
    found = earlier_compression(_middle(rgb), table)
    if found is None or found.gain <= GAIN:
        return []
    statement = (
        "Its coefficients point to an earlier JPEG compression on the same grid of blocks, mostly a coarser one: the "
        "picture seems to have been saved as JPEG at least twice. Editors do that, and so do web sites, messengers and "
        "programs that save a photo again without changing it. A finer first compression leaves hardly a trace."
    )
    data = {"gain": round(found.gain, 3), "earlier_step": found.step, "step": found.now}
    return [Finding(kind=COMPRESSED_TWICE, source=Origin.FILE, statement=statement, data=dict(data))]


def _middle(rgb: Image.Image) -> NDArray[np.uint8]:
    """A square from the middle, on the grid of blocks, or what there is of it: h×w×3, multiples of 8."""
    sides = [(max(0, length - SIDE) // 16 * 8, min(length, SIDE) // 8 * 8) for length in rgb.size]
    (left, width), (top, height) = sides
    return np.asarray(rgb.crop((left, top, left + width, top + height)))


def earlier_compression(pixels: NDArray[np.uint8], table: Table) -> Earlier | None:
    """The likeliest earlier compression of pixels from a JPEG; None: too few coefficients to say.

    Args:
        pixels: h×w×3, its first one the first of a block.
        table: luminance.
    """
    if min(pixels.shape[:2]) < 24:
        return None
    luma = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32) - 128
    blocks, unquantized = _coefficients(luma), _coefficients(luma[4:, 4:])
    found: list[tuple[float, int, int]] = []
    for row, column in _MODES:
        step = table[8 * row + column]
        values = np.delete(_histogram(blocks[None, :, row, column] / step)[0], _LARGEST)  # zeros tell of flat places
        if (count := values.sum()) < _FEWEST_VALUES:
            continue
        quarters = np.floor(4 * unquantized[:, row, column])
        least = quarters.min()
        counts = np.bincount((quarters - least).astype(np.int64))  # without sorting
        there = np.flatnonzero(counts)
        plain, count_of = (there.astype(np.float32) + least + 0.5) / 4, counts[there]
        once = _expected(plain[None] / step, count_of)
        firsts = np.array([first for first in _EARLIER if step % first])[:, None]
        gains = np.log(_expected(np.rint(plain / firsts) * firsts / step, count_of) / once) @ values / count
        if gains.size:
            best = len(gains) - 1 - int(gains[::-1].argmax())
            found.append((float(gains[best]), int(firsts[best, 0]), step))
    if len(found) < _FEWEST_MODES:
        return None
    showing = [one for one in found if one[0] > GAIN] or found
    return Earlier(
        float(np.median([gain for gain, _, _ in found])),
        int(np.median([first for _, first, _ in showing])),
        int(np.median([step for _, _, step in showing])),
    )


def _coefficients(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    """n×8×8, of whole blocks."""
    rows, columns = luma.shape[0] // 8, luma.shape[1] // 8
    blocks = luma[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3).reshape(-1, 8, 8)
    return np.asarray(_BASIS @ blocks @ _BASIS.T)


def _basis() -> NDArray[np.float32]:
    index = np.arange(8)
    waves = 0.5 * np.cos((2 * index[None] + 1) * index[:, None] * np.pi / 16)
    waves[0] /= np.sqrt(2)
    return waves.astype(np.float32)


_BASIS = _basis()


def _histogram(values: NDArray[np.floating[Any]], weights: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """How often each value of a row, rounded, occurs from -`_LARGEST` to `_LARGEST`; `weights` are for all rows."""
    edge, rows = _LARGEST + 1, len(values)
    bins = 2 * edge + 1
    index = np.clip(np.rint(values), -edge, edge).astype(np.int64) + edge + bins * np.arange(rows)[:, None]
    repeated = None if weights is None else np.broadcast_to(weights, index.shape).ravel()
    counts = np.bincount(index.ravel(), repeated, minlength=bins * rows).reshape(rows, bins)
    return counts[:, 1:-1].astype(np.float64)


def _expected(values: NDArray[np.floating[Any]], weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Shares of the values other than zero in each row, smoothed by what rounding does, and never zero."""
    counts = _histogram(values, weights)
    around = np.concatenate([counts[:, -1:], counts, counts[:, :1]], 1)  # np.roll and np.delete take longer
    counts = counts + 0.02 * (around[:, :-2] + around[:, 2:]) + 0.5
    counts = np.concatenate([counts[:, :_LARGEST], counts[:, _LARGEST + 1 :]], 1)
    return np.asarray(counts / counts.sum(1, keepdims=True))
