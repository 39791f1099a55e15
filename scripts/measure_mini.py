"""The bars of the embedded model: CASIA v1, forgeries made from held-out photos, trivial and classical baselines.

    python scripts/measure_mini.py BENCH/CASIA1 --data DATA --json mini.json

BENCH/CASIA1 holds `Tp/` (forged), `Gt/` (their masks) and `Au/` (authentic). F1 and IoU are per image, at full size, at
`> 0.5` on float maps, averaged over the forged images, with bootstrap 95 % intervals over images. The image-level AUC
is measured after both classes were re-encoded alike as JPEG 90: as shipped, the quantization tables alone tell the
classes apart. With --data, untouched pictures of every kind and forgeries made from photos, cameras and templates that
training never saw (`model/data/made_pictures.py`); a few of these make many pictures, so intervals are over them.
Operating point, score and thresholds were fitted on the same untouched pictures and on other forgeries of the same
photos.

Ends with the bars, met or missed.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from parts_off import PARTS
from PIL import Image
from shipped_split import held_out_materials, photos

from model.calibration import Calibration, proportion_interval
from model.checkpoint import inspect
from model.data.made_pictures import Made, MadePictures, small_regions
from model.data.source_photos import SourcePhotos
from model.datasets.casia import manipulation as casia_manipulation
from model.datasets.sample import Sample
from model.device import resolve
from model.evaluation import CLASSICAL, TRIVIAL, Estimate, find_at, ground, measure, summarize
from model.evaluation.bootstrap import Statistic, Values, interval, mean_estimates, statistic_estimates, weights
from model.evaluation.image_scores import auc
from model.evaluation.rows import ImageRow
from model.images.pixels import read_pixels
from model.predictor import Prediction, Predictor
from model.storage import load
from model.verdict import judge

Pixels = NDArray[np.uint8]
Map = NDArray[np.floating[Any]]
MADE_SEED, SMALL_REGIONS = 79, 240
"""The operating point was fitted on those of seed 77."""
COUNTS = {"native": 212, "web": 480, "copy_moves": 90, "splices": 110, "documents": 110}
LEVELS = np.linspace(0.02, 0.98, 49)


def as_it_is(pixels: Pixels) -> Pixels:
    return pixels


def reencoded(quality: int) -> Callable[[Pixels], Pixels]:
    """Through a JPEG of that quality with 4:2:0 chroma."""

    def through(pixels: Pixels) -> Pixels:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=2)
        with Image.open(buffer) as image:
            return np.asarray(image.convert("RGB"))

    return through


def predictions(
    predictor: Predictor, entries: Iterable[Sample], change: Callable[[Pixels], Pixels] = as_it_is
) -> Iterator[Prediction[Sample]]:
    """Of each image."""
    for result in predictor.predict((entry, change(read_pixels(entry.image))) for entry in entries):
        if not isinstance(result, Prediction):
            raise SystemExit(f"{result.key.key}: {result.message}")
        yield result


def maps(
    predictor: Predictor, entries: Iterable[Sample], change: Callable[[Pixels], Pixels] = as_it_is
) -> Iterator[tuple[Sample, Map]]:
    """Sample and heatmap of each image."""
    for result in predictions(predictor, entries, change):
        yield result.key, result.heatmap


def named(entry: Sample) -> Sample:
    """With what was done, which the names of CASIA v1 say."""
    return replace(entry, manipulation=entry.manipulation or casia_manipulation(entry.image.stem))


def figures(rows: Sequence[ImageRow]) -> dict[str, Any]:
    """F1 and IoU of the forged images, of all and of each manipulation that the set tells apart."""
    summary = summarize(rows)
    by = summary.groups["manipulation"]
    parts = {name: cells["f1"].to_dict() for name, cells in by.items()} if len(by) > 1 else {}
    return {name: summary.pixel[name].to_dict() for name in ("f1", "iou")} | parts


def f1_of(heatmap: Map, mask: NDArray[np.bool_], threshold: float = 0.5) -> float:
    """Of one forged picture."""
    marked = heatmap > threshold
    return 2 * float((marked & mask).sum()) / float(marked.sum() + mask.sum())


def by_photo(statistic: Statistic, photos: Sequence[str]) -> Estimate:
    """A statistic of pictures, and its interval from resamples of the photos that they were made from."""
    names, index = np.unique(photos, return_inverse=True)
    drawn = weights(np.zeros(len(names), np.int64), seed=0)
    values = np.concatenate([statistic(counts[:, index]) for counts in drawn])
    return Estimate(float(statistic(np.ones((1, len(photos))))[0]), len(photos), *interval(values))


def mean_of(values: Sequence[float]) -> Statistic:
    column = np.array(values, np.float64)
    return lambda weight: weight @ column / weight.sum(-1)


def baselines(entries: list[Sample]) -> dict[str, Any]:
    """Classical and trivial methods; a classical map has no calibrated 0.5 and also gets the best threshold here."""
    out: dict[str, Any] = {}
    truths = [truth for entry in entries if (truth := ground(entry).truth) is not None]
    for name, method in (CLASSICAL | TRIVIAL).items():
        found = [method(read_pixels(entry.image)) for entry in entries]
        out[name] = figures([measure(entry, heatmap) for entry, heatmap in zip(entries, found, strict=True)])
        if name in CLASSICAL:
            f1 = np.mean([[f1_of(m, t, level) for level in LEVELS] for m, t in zip(found, truths, strict=True)], 0)
            best = {"f1": float(f1.max()), "threshold": float(LEVELS[f1.argmax()]), "n": len(truths)}
            out[f"{name}, threshold chosen on this set"] = best
        print(name, out[name]["f1"], flush=True)
    return out


@dataclass(frozen=True, slots=True)
class Judged:
    """What the tool says of one picture."""

    made: Made
    f1: float
    marked: float
    score: float
    verdict: str


def judged(predictor: Predictor, pictures: Iterable[Made], calibration: Calibration) -> list[Judged]:
    """Run the model over pictures as a scan does; no pixels are kept."""
    out = []
    for result in predictor.predict((made, made.pixels) for made in pictures):
        if not isinstance(result, Prediction):
            raise SystemExit(result.message)
        made: Made = result.key
        finding = judge(made.pixels, result.heatmap, result.features, calibration)
        f1 = f1_of(result.heatmap, made.mask) if made.forged else float("nan")
        kept = replace(made, pixels=made.pixels[:0], mask=made.mask[:0])
        out.append(Judged(kept, f1, float(finding.mask.mean()), finding.score, finding.verdict))
    return out


def f1_by_source(found: Sequence[Judged]) -> Estimate:
    """Mean F1 of forged pictures, its interval over their sources."""
    forged = [one for one in found if one.made.forged]
    return by_photo(mean_of([one.f1 for one in forged]), [one.made.source for one in forged])


def auc_by_source(found: Sequence[Judged]) -> Estimate:
    """Of the score, forged against authentic pictures."""
    kinds, scores = np.array([one.made.forged for one in found]), np.array([one.score for one in found])
    return by_photo(lambda weight: auc(scores, kinds, weight), [one.made.source for one in found])


def called(found: Sequence[Judged], verdict: str) -> Estimate:
    """Share of the pictures with this verdict, with the exact interval of a proportion."""
    hits = sum(one.verdict == verdict for one in found)
    return Estimate(hits / len(found), len(found), *proportion_interval(hits, len(found)))


def figures_of_made(found: Sequence[Judged]) -> dict[str, Any]:
    """Of each group: F1 by kind of forgery, area marked on authentic ones, verdicts, AUC where there are both."""
    out: dict[str, Any] = {}
    for group in dict.fromkeys(one.made.group for one in found):
        own = [one for one in found if one.made.group == group]
        forged, authentic = ([one for one in own if one.made.forged is side] for side in (True, False))
        figures: dict[str, Any] = {"sources": len({one.made.source for one in own})}
        if forged:
            figures["f1"] = f1_by_source(own).to_dict()
            for kind in sorted({one.made.kind for one in forged}):
                figures[f"f1 {kind}"] = f1_by_source([one for one in forged if one.made.kind == kind]).to_dict()
            figures["forged called forged"] = called(forged, "forged").to_dict()
        if authentic:
            area = by_photo(mean_of([one.marked for one in authentic]), [one.made.source for one in authentic])
            figures["marked on untouched"] = area.to_dict()
            for verdict in ("forged", "inconclusive"):
                figures[f"untouched called {verdict}"] = called(authentic, verdict).to_dict()
        if forged and authentic:
            figures["auc"] = auc_by_source(own).to_dict()
        out[group] = figures
    return out


def parts(predictor: Predictor, entries: list[Sample]) -> dict[str, Any]:
    """F1 of the network with one part after the other switched off."""
    out: dict[str, Any] = {}
    for name, switch_off in PARTS.items():
        handles = switch_off(predictor.model)
        f1 = [measure(entry, heatmap).f1 for entry, heatmap in maps(predictor, entries)]
        for handle in handles:
            handle.remove()
        out[name] = mean_estimates({"f1": np.array(f1, np.float64)}, seed=0)["f1"].to_dict()
        print(name, out[name], flush=True)
    return out


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure that the model has to reach, or to stay below."""

    name: str
    bar: float
    cell: Estimate
    at_most: bool = False

    def to_dict(self) -> dict[str, Any]:
        """With whether the value meets it; its interval may still reach across. What is not defined meets nothing."""
        value = self.cell.value
        met = value is not None and (value <= self.bar if self.at_most else value >= self.bar)
        return {"bar": f"{'≤' if self.at_most else '≥'} {self.bar}"} | self.cell.to_dict() | {"met": met}


def measured_on_set(root: Path, predictor: Predictor, calibration: Calibration, every: int) -> tuple[Any, list[Bar]]:
    """All that is measured on CASIA v1, and its bars."""
    found = find_at(root)
    for problem in found.problems:
        print(f"{problem.kind.value}: {problem.name} {problem.detail}", file=sys.stderr)
    forged = [named(entry) for entry in found.samples if entry.forged and ground(entry).truth is not None]
    authentic = [entry for entry in found.samples if not entry.forged]
    if not forged or not authentic:
        raise SystemExit(f"{root}: {len(forged)} forged images with a mask and {len(authentic)} authentic ones")
    out: dict[str, Any] = {"problems": [problem.to_dict() for problem in found.problems]}
    if every:
        out[f"parts switched off, every {every}. forged image"] = parts(predictor, forged[::every])
    plain = [measure(entry, heatmap) for entry, heatmap in maps(predictor, forged)]
    again = [measure(entry, heatmap) for entry, heatmap in maps(predictor, forged, reencoded(70))]
    out["mini"], out["mini after JPEG 70"] = figures(plain), figures(again)
    out |= baselines(forged)
    marked = [float((heatmap > 0.5).mean()) for _, heatmap in maps(predictor, authentic)]
    both = predictions(predictor, [*forged, *authentic], reencoded(90))
    scores = np.array([calibration.score(one.heatmap, one.features) for one in both], np.float64)
    classes = np.arange(len(scores)) < len(forged)
    before, after = (np.array([row.f1 for row in rows], np.float64) for rows in (plain, again))
    everything = np.zeros(len(forged), np.int64)

    def kept(weight: Values) -> Values:
        with np.errstate(invalid="ignore", divide="ignore"):
            return (weight @ after) / (weight @ before)

    cells = {
        "kept": statistic_estimates({"": kept}, everything, seed=0)[""],
        "auc": statistic_estimates({"": lambda w: auc(scores, classes, w)}, classes.astype(np.int64), seed=0)[""],
        "marked": mean_estimates({"": np.array(marked)}, seed=0)[""],
    }
    f1 = Estimate(**out["mini"]["f1"])
    return out, [
        Bar("F1 on CASIA v1", 0.54, f1),
        Bar("share of it kept after JPEG 70", 0.85, cells["kept"]),
        Bar("image-level AUC on CASIA v1, both classes re-encoded as JPEG 90", 0.82, cells["auc"]),
        Bar("area marked on authentic images of CASIA v1", 0.03, cells["marked"], at_most=True),
    ]


def measured_on_made(
    held_out: MadePictures, huge: SourcePhotos, predictor: Predictor, calibration: Calibration, scale: float
) -> tuple[Any, list[Bar]]:
    """All that is measured on pictures that no training saw, and its bars."""
    counts = {group: round(count * scale) for group, count in COUNTS.items()}
    small = small_regions(huge, round(SMALL_REGIONS * scale))
    found = judged(predictor, chain(held_out.made(MADE_SEED, counts, 1), small), calibration)

    def of(group: str) -> list[Judged]:
        return [one for one in found if one.made.group == group]

    bars = []
    if of("camera"):
        bars += [
            Bar("camera originals called forged", 0.02, called(of("camera"), "forged"), at_most=True),
            Bar("camera originals called inconclusive", 0.15, called(of("camera"), "inconclusive"), at_most=True),
        ]
    if of("screen"):
        bars.append(
            Bar("screens, drawings and pages called forged", 0.01, called(of("screen"), "forged"), at_most=True)
        )
    if native := of("native"):
        bars += [
            Bar("image-level AUC, forgeries from camera originals against untouched ones", 0.85, auc_by_source(native)),
            Bar(
                "forgeries from camera originals called forged",
                0.40,
                called([o for o in native if o.made.forged], "forged"),
            ),
        ]
    for name, group, bar in (
        ("F1 on copy-moves of 512² and more", "copy-moves", 0.45),
        ("F1 on pictures with several splices", "splices", 0.60),
        ("F1 on documents", "documents", 0.40),
        ("F1 on regions under 1 % in made pictures of 1024×768", "small regions", 0.42),
    ):
        if of(group):
            bars.append(Bar(name, bar, f1_by_source(of(group))))
    return figures_of_made(found), bars


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--data", type=Path, help="holds photos/, for pictures made of those that are held out")
    parser.add_argument("--screens", type=Path, help="what make_screens.py wrote")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of made pictures (%(default)s)")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--parts", type=int, default=0, metavar="N", help="parts switched off, every Nth forged image")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    checkpoint = inspect(args.model)
    predictor = Predictor(load(checkpoint, *resolve("cpu", args.dtype)))
    results: dict[str, Any] = {"model_digest": checkpoint.digest}
    found, bars = measured_on_set(args.root, predictor, checkpoint.calibration, args.parts)
    results |= found
    if args.data:
        held_out = MadePictures(held_out_materials(args.data, args.screens))
        huge = photos(args.data, validation=True, folders=("scenes",))
        found, more = measured_on_made(held_out, huge, predictor, checkpoint.calibration, args.scale)
        results |= found
        bars += more
    results["bars"] = {bar.name: bar.to_dict() for bar in bars}
    rounded = json.loads(json.dumps(results), parse_float=lambda digits: round(float(digits), 4))
    text = json.dumps(rounded, indent=1, ensure_ascii=False)
    print(text)
    if args.json:
        args.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
