"""Measuring: the field's benchmarks, metrics with intervals, baselines, and comparisons.

    from model.data.attacks import parse
    from model.evaluation import TRIVIAL, find, measure, summarize
    from model.images.pixels import read_pixels

    found = find("casia1", Path("/data/forensics"))  # or find_at(path); absent: the error says where to get it
    (attack,) = parse("jpeg:70")
    rows = []
    for entry in found.samples:
        pixels = attack.apply(read_pixels(entry.image), seed=0)
        heatmap = TRIVIAL["centre box"](pixels)  # any method: H×W×3 uint8 → H×W float32 in [0, 1]
        rows.append(measure(entry, heatmap, score=float(heatmap.mean()), seen=pixels.shape[:2]))
    summary = summarize(rows, seed=0)
    print(summary.pixel["f1"], summary.groups["edited area"], summary.problems)

One image at a time: a row keeps numbers only. Where several methods are measured on an image, `known=ground(entry)`
reads its ground truth once for all of them. `compare(rows_a, rows_b, "f1")` tests two results on the same images;
`digest(found.samples)` names the data.
`ImageRow.to_dict` and `from_dict` carry rows through a file, for resuming. In strict mode (`strict=True` of `find`,
`find_at`) a problem is an error.

Figures are per image, at the size of the ground truth, at `p > 0.5` on floats, averaged over forged images. They are
comparable neither with figures pooled over pixels (PhotoHolmes), nor with those at network size (IMDL-BenCo), nor with
the better of map and inverse (TruFor), which is `f1_permute` here.

| module | what |
|---|---|
| `benchmarks` | the sets of `model.datasets`: finding, checking; the exceptions |
| `made` | the benchmark `made`, pictures made of held-out photos |
| `ground` | the header and the ground truth of an image, and what is wrong with them |
| `pixel_scores` `rows` | one image: exact metrics, what is kept of it, what was wrong with it |
| `image_scores` `bootstrap` `metrics` | all images: figures with n and interval, groups, comparison |
| `baselines` `classical` | what stands beside a method in every table |
"""

from model.evaluation.baselines import CLASSICAL, TRIVIAL, probe
from model.evaluation.benchmarks import (
    BenchmarkNotFound,
    EvaluationError,
    Found,
    Status,
    StrictError,
    digest,
    expand,
    find,
    find_at,
    inverted_set,
    limited,
    status,
)
from model.evaluation.bootstrap import Comparison, Estimate
from model.evaluation.ground import Ground, ground, read_truth
from model.evaluation.metrics import IMAGE_METRICS, PIXEL_METRICS, Summary, compare, f1_kept, summarize
from model.evaluation.pixel_scores import THRESHOLD
from model.evaluation.rows import FIELDS, ImageRow, measure

__all__ = [
    "CLASSICAL",
    "FIELDS",
    "IMAGE_METRICS",
    "PIXEL_METRICS",
    "THRESHOLD",
    "TRIVIAL",
    "BenchmarkNotFound",
    "Comparison",
    "Estimate",
    "EvaluationError",
    "Found",
    "Ground",
    "ImageRow",
    "Status",
    "StrictError",
    "Summary",
    "compare",
    "digest",
    "expand",
    "f1_kept",
    "find",
    "find_at",
    "ground",
    "inverted_set",
    "limited",
    "measure",
    "probe",
    "read_truth",
    "status",
    "summarize",
]
