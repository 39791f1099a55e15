"""Validation: F1 at 0.5 per forged picture, the marked area of authentic ones, and a picture of fixed samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from model.evaluation.pixel_scores import THRESHOLD, Counts
from model.reporter import SILENT, Reporter
from model.training.errors import OptionsError
from model.training.feed import Feed, FeedBatch, batches
from model.training.options import TrainingOptions
from model.training.run_folder import Row
from model.whole_file import write_whole

SHOWN = 8


@dataclass(frozen=True, slots=True)
class Summary:
    """Of a validation.

    Attributes:
        f1, iou: mean over the forged pictures, at 0.5.
        forged, authentic: how many pictures of each there were.
        marked_on_authentic: mean share of the area that is marked on authentic pictures; NaN without any.
        precision, recall: over all pixels of all pictures, each count one larger, so that both are above 0.
    """

    f1: float
    iou: float
    forged: int
    authentic: int
    marked_on_authentic: float
    precision: float
    recall: float


def fixed_batches(
    feed: Feed, options: TrainingOptions, accelerator: Accelerator, reporter: Reporter = SILENT
) -> list[FeedBatch]:
    """This process's part of the validation, made once and kept; at least a batch.

    Raises:
        ResourcesError: a process that makes batches died.
        OptionsError: no picture can be read, or none is forged.
    """
    count, pictures = 0, 0
    while pictures < options.validation_samples or count < accelerator.num_processes:
        pictures += feed.count(count)
        count += 1
    mine = range(accelerator.process_index, count, accelerator.num_processes)
    reporter.stage("Making the validation samples", "samples", sum(map(feed.count, mine)))
    made: list[FeedBatch] = []
    for batch in batches(feed, mine, options.workers):
        made.append(batch)
        reporter.advance(len(batch.images))
    problems = [batch.problem for batch in made if batch.problem]
    if problems:
        raise OptionsError(f"Nothing to validate on: {problems[0]}.", "Look at the data with --dry-run.")
    forged = sum(int(batch.masks.flatten(1).any(1).sum()) for batch in made)
    if sum(gather_object([forged])) == 0:
        raise OptionsError(
            f"None of the {pictures} validation samples is forged.",
            "Give the mix a source of forged pictures, or raise its validation share.",
        )
    return made


@torch.inference_mode()
def measure(
    model: nn.Module, batches: Sequence[FeedBatch], device: torch.device, shown: int = 0
) -> tuple[list[Counts], list[NDArray[np.float32]]]:
    """Run the network over batches.

    Args:
        model: its mode (training or evaluation) is put back afterwards.
        batches: of the validation.
        device: where the network is.
        shown: how many probability maps to return.

    Returns:
        The counts of every picture, and the maps of the first `shown` ones, H×W in [0, 1].
    """
    former = model.training
    model.eval()
    counts: list[Counts] = []
    maps: list[NDArray[np.float32]] = []
    for batch in batches:
        probability = torch.sigmoid(model(*batch.to(device)).float()).squeeze(1).cpu()
        maps += [p.numpy() for p in probability[: max(0, shown - len(maps))]]
        counts += [
            Counts.of(p.numpy() > THRESHOLD, truth.numpy())
            for p, truth in zip(probability, batch.masks.squeeze(1), strict=True)
        ]
    model.train(former)
    return counts, maps


def summarize(counts: Sequence[Counts]) -> Summary:
    """Means over the pictures. There is at least one forged picture (`fixed_batches` sees to it)."""
    forged = [c for c in counts if c.forged]
    authentic = [c for c in counts if not c.forged]
    both = sum(c.both for c in counts) + 1
    return Summary(
        f1=float(np.mean([c.f1 for c in forged])),
        iou=float(np.mean([c.iou for c in forged])),
        forged=len(forged),
        authentic=len(authentic),
        marked_on_authentic=float(np.mean([c.marked / c.pixels for c in authentic])) if authentic else np.nan,
        precision=both / (1 + sum(c.marked for c in counts)),
        recall=both / (1 + sum(c.forged for c in counts)),
    )


def by_source(counts: Sequence[Counts], sources: Sequence[str]) -> dict[str, float]:
    """Mean F1 of the forged pictures of each source, mean share of the area that is marked of its authentic ones."""
    found: dict[str, list[float]] = {}
    for one, source in zip(counts, sources, strict=True):
        name, value = ("f1", one.f1) if one.forged else ("marked", one.marked / one.pixels)
        found.setdefault(f"{name} {source}", []).append(value)
    return {name: float(np.mean(values)) for name, values in sorted(found.items())}


def write_samples(path: Path, batches: Sequence[FeedBatch], maps: Sequence[NDArray[np.float32]]) -> None:
    """A PNG with a row for each of the first validation samples: picture, truth, probability.

    Raises:
        OSError: it cannot be written.
    """
    pictures = [image.permute(1, 2, 0).numpy() for batch in batches for image in batch.images][: len(maps)]
    truths = [mask[0].numpy() for batch in batches for mask in batch.masks][: len(maps)]
    height, width = max(p.shape[0] for p in pictures), max(p.shape[1] for p in pictures)
    sheet = np.full((len(maps) * (height + 4), 3 * (width + 4), 3), 128, np.uint8)
    for row, (picture, truth, probability) in enumerate(zip(pictures, truths, maps, strict=True)):
        grey = [np.repeat((m * 255).astype(np.uint8)[..., None], 3, 2) for m in (truth, probability)]
        for column, part in enumerate([picture, *grey]):
            top, left = row * (height + 4), column * (width + 4)
            sheet[top : top + part.shape[0], left : left + part.shape[1]] = part
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda part: Image.fromarray(sheet).save(part, "PNG"))


def validation_line(row: Row) -> str:
    """The result of a validation in words."""
    line = f"step {row['step']}: F1 {row['f1']:.4f} on {row['forged']} forged images"
    if row["authentic"]:
        line += f", {row['marked_on_authentic']:.2%} of the area marked on {row['authentic']} authentic ones"
    line += f"; weights of BCE {row['bce_weight']:.3f}, of Dice {row['dice_weight']:.3f}"
    return line + (" (best so far)" if row["best"] else "")
