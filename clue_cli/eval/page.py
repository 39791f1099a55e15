"""`index.html`: the whole result on one self-contained page, without a script, for a browser with no network; and the
contact sheets on it: the best, the median and the worst images of a method, each with ground truth and heatmap.

The style is allowed by its hash, pictures only as data within the page, and nothing else at all; what comes from the
data sets is escaped text. The charts are the page's own SVG.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageDraw, ImageFont

from clue_cli.eval.aggregate import Images, rows_of
from clue_cli.eval.measurements import MeasurementLog
from clue_cli.eval.methods import Method
from clue_cli.eval.pictures import Pictures
from clue_cli.eval.plan import Plan
from clue_cli.eval.plots import Plot, slug
from clue_cli.eval.published import SOURCE
from clue_cli.eval.results import Outcome, Results, SetRecord
from clue_cli.eval.sets import ChosenSet
from clue_cli.eval.table import (
    BAR_HEADINGS,
    METRICS,
    auc_rows,
    bar_rows,
    columns,
    group_table,
    main_rows,
    notes,
    number,
    with_interval,
)
from clue_cli.networks import Network, NetworkLost
from clue_cli.report import asset, content_policy, environment
from clue_cli.results.pictures import inferno
from clue_cli.terminal import printable
from model.data.attacks import AttackError
from model.datasets.sample import Sample
from model.evaluation import ImageRow
from model.images.maps import Map
from model.images.masks import Mask
from model.images.pixels import DamagedFileError, Pixels

_PACKAGE = "clue_cli.eval"

PROBLEMS = 200
"""Most problems of one set that the page lists; `results.json` and `per_image.csv` have more."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A contact sheet: the set and method it is about, and a JPEG."""

    set: str
    method: str
    jpeg: bytes

    @property
    def source(self) -> str:
        """The picture as a `data:` URL."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode('ascii')}"


def render(results: Results, plots: Sequence[Plot], sheets: Sequence[Sheet]) -> str:
    """The page as HTML."""
    style = asset(_PACKAGE, "results.css")
    subjects = results.subjects()
    details = [one for one in results.outcomes if one.method in subjects]
    return (
        environment(_PACKAGE)
        .get_template("results.html.j2")
        .render(
            csp=content_policy(style=style, images="data:"),
            style=Markup(style),
            results=results,
            columns=columns(results),
            tables=[(attack, main_rows(results, attack)) for attack in results.attacks],
            aucs=auc_rows(results, results.attacks[0]),
            notes=notes(results),
            source=SOURCE,
            details=[(one, _cells(one)) for one in details],
            bars=bar_rows(results),
            bar_headings=BAR_HEADINGS,
            groups=[(one, by, *group_table(one, by)) for one in details for by in one.groups if one.groups[by]],
            problems=[(record.name, _problems(results, record)) for record in results.sets],
            elsewhere={record.name: _shortened(map(str, record.elsewhere)) for record in results.sets},
            # The charts are written by `svg`, which escapes all that it is given
            plots=[(plot.set, Markup(plot.svg)) for plot in plots],
            sheets=sheets,
            number=number,
        )
    )


def _cells(one: Outcome) -> list[tuple[str, str]]:
    found = one.pixel | one.image
    return [(words, with_interval(found.get(metric))) for metric, words in METRICS.items() if metric in found]


def _problems(results: Results, record: SetRecord) -> list[str]:
    """Those of the set, then those of single images under each method."""
    lines = [(problem, "") for problem in record.problems]
    lines += [(p, one.method) for one in results.outcomes if one.set == record.name for p in one.problems]
    words: dict[str, list[str]] = {}
    for problem, method in lines:
        methods = words.setdefault(str(problem), [])
        if method and method not in methods:
            methods.append(method)
    return _shortened(
        f"{text}{f' – {len(m)} methods' if len(m) > 1 else f' – {m[0]}' if m else ''}" for text, m in words.items()
    )


def _shortened(lines: Iterable[str]) -> list[str]:
    listed = list(lines)
    more = len(listed) - PROBLEMS
    return [*listed[:PROBLEMS], *([f"and {more} more, see results.json and per_image.csv"] if more > 0 else [])]


EACH = 3
"""Images of each kind."""
SIDE = 200
"""Longer side of a picture, pixels."""
GAP, LABEL = 8, 34
QUALITY = 88


@dataclass(frozen=True, slots=True)
class Pick:
    """One image of the sheet: its key, its F1, and why it is there."""

    key: str
    f1: float
    words: str


def pick(rows: Iterable[ImageRow]) -> list[Pick]:
    """The best, median and worst by F1, `EACH` of each, ties by key; no image twice."""
    scored = sorted((row for row in rows if row.f1 is not None), key=lambda row: (-(row.f1 or 0.0), row.key))
    middle = max(0, (len(scored) - EACH) // 2)
    groups = (("best", scored[:EACH]), ("median", scored[middle : middle + EACH]), ("worst", scored[-EACH:][::-1]))
    found: dict[str, Pick] = {}
    # The extremes come first: where there are few images, they are not shown as the median
    for words, part in (groups[0], groups[2], groups[1]):
        for row in part:
            found.setdefault(row.key, Pick(row.key, row.f1 or 0.0, words))
    order = {"best": 0, "median": 1, "worst": 2}
    return sorted(found.values(), key=lambda one: (order[one.words], -one.f1, one.key))


def sheet(tiles: Iterable[tuple[Pick, Mask | None, Pixels, Map]], count: int) -> bytes:
    """A JPEG: a row for each image, from left to right the picture, its ground truth, the heatmap.

    Args:
        tiles: ground truth, pixels H×W×3 and map of each, one at a time; they may differ in size.
        count: maximum number of tiles.
    """
    width, height = 3 * SIDE + 4 * GAP, count * (SIDE + LABEL + GAP) + GAP
    canvas = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=13)
    top = GAP
    for one, truth, pixels, heatmap in tiles:
        text = f"{one.words}, F1 {one.f1:.3f}"
        draw.text((GAP, top), text, fill="black", font=font)
        draw.text((GAP, top + 15), _fitting(printable(one.key)), fill="#555555", font=font)
        tallest = 0
        for column, picture in enumerate((Image.fromarray(pixels), _truth(truth), _heat(heatmap))):
            if picture is not None:
                small = _small(picture)
                canvas.paste(small, (GAP + column * (SIDE + GAP), top + LABEL))
                tallest = max(tallest, small.height)
        top += tallest + LABEL + GAP
    buffer = io.BytesIO()
    canvas.crop((0, 0, width, top)).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _small(picture: Image.Image) -> Image.Image:
    scale = SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.convert("RGB").resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST)


def _truth(truth: Mask | None) -> Image.Image | None:
    return None if truth is None else Image.fromarray(truth.astype(np.uint8) * 255)


def _heat(heatmap: Map) -> Image.Image:
    step = max(1, max(heatmap.shape) // (4 * SIDE))
    return Image.fromarray(inferno()[(np.clip(heatmap[::step, ::step], 0, 1) * 255).astype(np.uint8)])


def _fitting(text: str, characters: int = 88) -> str:
    # The built-in font has Latin letters only
    plain = text.encode("ascii", "replace").decode()
    return plain if len(plain) <= characters else f"...{plain[-characters + 3 :]}"


def contact_sheets(plan: Plan, log: MeasurementLog, images: Images, networks: Sequence[Network]) -> dict[str, Sheet]:
    """A contact sheet for each set and subject under the first attack, by the name of its file.

    Args:
        networks: of the plan; the first that works computes heatmaps.
    """
    sheets = {}
    attack, seed = plan.attacks[0], plan.options.seed
    with Pictures(1, plan.options.max_megapixels) as pictures:
        for number, chosen in enumerate(plan.sets, 1):
            for method in plan.methods[chosen.name]:
                if not method.subject:
                    continue
                found = rows_of(log, chosen, images[chosen.name], method, attack, seed)
                picks = pick(one.row for one in found)
                if not picks:
                    continue
                jpeg = sheet(_tiles(plan, networks, pictures, chosen, method, picks), len(picks))
                name = f"{number:02d}-{slug(chosen.name)}-{slug(method.name)}.jpg"
                sheets[name] = Sheet(chosen.name, method.name, jpeg)
    return sheets


def _tiles(
    plan: Plan, networks: Sequence[Network], pictures: Pictures, chosen: ChosenSet, method: Method, picks: list[Pick]
) -> Iterator[tuple[Pick, Mask | None, Pixels, Map]]:
    entries = {entry.key: entry for entry in chosen.samples}
    for one in picks:
        entry = entries[one.key]
        try:
            attacked = plan.attacks[0].apply(pictures.pixels(entry), plan.options.seed)
            heatmap = _map(plan, networks, pictures, chosen, method, entry, attacked)
            if heatmap is not None:
                yield one, pictures.truth(entry), attacked, heatmap
        except (DamagedFileError, AttackError):
            continue  # its figures are from before; the file is not what it was


def _map(
    plan: Plan,
    networks: Sequence[Network],
    pictures: Pictures,
    chosen: ChosenSet,
    method: Method,
    entry: Sample,
    pixels: Pixels,
) -> Map | None:
    if method.function is not None:
        return method.function(pixels)
    if method.kind == "predictions":
        path, _ = plan.folders[chosen.name].find(entry)
        return None if path is None else pictures.map(path)
    for network in networks:
        with suppress(NetworkLost):
            (answer,) = network.predict([(entry.key, pixels)])
            return getattr(answer, "heatmap", None)
    return None
