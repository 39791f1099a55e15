"""Train every row of one of the paper's ablation tables alike, measure it, and write the table in the paper's form.

    python scripts/ablate.py --table branches --data mix.yaml --out runs/branches --steps 5000
    python scripts/ablate.py --table noise --data mix.yaml --out runs/noise --steps 5000 --preset sd3-medium \
        --set CASIA-v1=/data/CASIA1 --set MISD=/data/MISD --launch "accelerate launch --num_processes 8" \
        -- --batch 2 --accumulate 4 --precision bf16 --gradient-checkpointing

All rows have the same data, seed, steps and options; what follows `--` goes to `clue train` as it is. Each row is an
ordinary runs folder below --out: the same command goes on where it was interrupted. Measured is the last model of each
row, never the best one: the best is chosen on the validation pictures. Without --set these are what is measured, and
the table says so. Figures are F1/IoU per image at 0.5, averaged over the forged images, with bootstrap 95 % intervals.

A frozen branch is worth something only if it was trained before: give `-- --init MODEL --set fresh_head=true`, or a
preset that stands on base weights.

Writes OUT/<table>.md and OUT/<table>.json.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.checkpoint import inspect
from model.config import ConfigError, legible
from model.data.mix import load_mix
from model.data.stream import Stream
from model.datasets.sample import Sample
from model.evaluation import Estimate, EvaluationError, ImageRow, find_at, measure, summarize
from model.images.pixels import DamagedFileError, read_pixels
from model.predictor import Prediction, Predictor
from model.presets import preset_of
from model.storage import load
from model.training.feed import Feed, batches
from model.training.validation import measure as count_pixels
from model.whole_file import write_text

VALIDATION = "held-out validation"
SHOWN = 20
"""Problems of a set that are printed."""
SHIFTS = (0.5, 1.0, 3.0, 4.0, 6.0)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: its name in the paper, its folder, and what it adds to the command."""

    title: str
    folder: str
    words: tuple[str, ...]


def rows_of(table: str, sd3: str, sam: str) -> list[Row]:
    """The rows of a table, in the paper's order. `sd3`, `sam`: how a branch is tuned where it is, `lora` or `full`."""
    if table == "branches":
        plans = (
            ("SD3 tuned, SAM frozen", "both", sd3, "frozen"),
            ("SD3 tuned, no SAM", "sd3", sd3, "frozen"),
            ("no SD3, SAM tuned", "sam", "frozen", sam),
            ("SD3 frozen, SAM tuned", "both", "frozen", sam),
            ("both tuned (CLUE)", "both", sd3, sam),
        )
        return [
            Row(
                title,
                f"{branches}-sd3-{how_sd3}-sam-{how_sam}",
                changes(branches=branches, adapt_sd3=how_sd3, adapt_sam=how_sam),
            )
            for title, branches, how_sd3, how_sam in plans
        ]
    if table == "noise":
        names = (("none", "none"), ("DDPM", "ddpm"), ("rectified flow", "rf"))
        return [Row(f"noise: {title}", f"noise-{name}", changes(noise=name)) for title, name in names]
    return [Row(f"shift {s}", f"shift-{s}", changes(noise="rf", shift=s)) for s in SHIFTS]


def changes(**values: object) -> tuple[str, ...]:
    """Changes of the recipe, as words of the command line."""
    return tuple(word for name, value in values.items() for word in ("--set", f"{name}={value}"))


def command(row: Row, args: argparse.Namespace) -> list[str]:
    """The `clue train` of one row."""
    start = shlex.split(args.launch) if args.launch else [sys.executable]
    words = ["-m", "clue_cli", "train", "--data", str(args.data), "--out", str(args.out / row.folder)]
    words += ["--preset", args.preset, "--steps", str(args.steps), "--seed", str(args.seed)]
    words += ["--calibration-samples", "0"]  # maps are compared, not verdicts
    return [*start, *words, *row.words, *args.rest]


def train_row(words: list[str]) -> int:
    """Run the command; its exit code. Ctrl-C is for the training, which saves and ends: it is waited for."""
    with subprocess.Popen(words) as process:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupted wait can lose the code
        try:
            return process.wait()
        finally:
            signal.signal(signal.SIGINT, before)


def on_validation(model: Path, args: argparse.Namespace) -> Iterator[ImageRow]:
    """The validation pictures of the mix, the same for every row."""
    checkpoint = inspect(str(model))
    network = load(checkpoint, args.device, torch.float32)
    feed = Feed(Stream(load_mix(args.data), "validation", args.seed), checkpoint.preset, 1, args.seed)
    for batch in batches(feed, range(args.pictures), args.workers):
        if batch.problem:
            raise SystemExit(batch.problem)
        (counts,), _ = count_pixels(network, [batch], torch.device(args.device))
        forged = counts.forged > 0
        f1, iou = (counts.f1, counts.iou) if forged else (None, None)
        marked = counts.marked / counts.pixels
        yield ImageRow(f"{batch.number:07d}", forged, marked_area=marked, f1=f1, iou=iou)


def entries_of(name: str, folder: Path) -> list[Sample]:
    """The images of a benchmark folder; what is wrong with them is printed.

    Raises:
        EvaluationError: it is laid out in no way that is known, or no image is forged.
    """
    found = find_at(folder)
    for problem in found.problems[:SHOWN]:
        line = f"{name}: {problem.kind.value}: {problem.name} {problem.detail}"
        print(legible(line.rstrip()), file=sys.stderr)
    if len(found.problems) > SHOWN:
        print(f"{name}: and {len(found.problems) - SHOWN} problems more", file=sys.stderr)
    if not any(entry.forged for entry in found.samples):
        raise EvaluationError(f"{folder} holds no forged image that F1 could be measured on")
    return found.samples


def on_set(model: Path, entries: Sequence[Sample], args: argparse.Namespace) -> Iterator[ImageRow]:
    """The images of a benchmark, at full size, through the predictor that `clue scan` uses."""
    network = load(inspect(str(model)), args.device, torch.float32)
    unreadable: list[Sample] = []

    def pictures() -> Iterator[tuple[Sample, NDArray[np.uint8]]]:
        for entry in entries:
            try:
                pixels = read_pixels(entry.image)
            except DamagedFileError:  # printed when the set was listed
                unreadable.append(entry)
                continue
            yield entry, pixels

    for result in Predictor(network).predict(pictures()):
        heatmap = result.heatmap if isinstance(result, Prediction) else None
        yield measure(result.key, heatmap)
    yield from (measure(entry, None) for entry in unreadable)


def short(cell: Estimate) -> str:
    """`.847`, as the paper writes it."""
    return "n/a" if cell.value is None else f"{cell.value:.3f}".removeprefix("0")


def between(cell: Estimate) -> str:
    """Its interval."""
    return "" if cell.low is None or cell.high is None else f"{cell.low:.3f}–{cell.high:.3f}"


def markdown(table: str, results: dict[str, dict[str, dict[str, Estimate]]], args: argparse.Namespace) -> str:
    """The table: F1/IoU, below it n and the interval of F1."""
    sets = list(next(iter(results.values())))
    lines = [f"# Ablation `{table}`, preset {args.preset}, {args.steps} steps, seed {args.seed}", ""]
    lines += ["F1/IoU per forged image at 0.5, mean; below it n and the bootstrap 95 % interval of F1.", ""]
    if sets == [VALIDATION]:
        lines += ["Measured on the validation pictures of the mix, which share no photo with the training.", ""]
    lines += ["| what | " + " | ".join(sets) + " |", "|---" * (len(sets) + 1) + "|"]
    for title, cells in results.items():
        shown = [f"{short(c['f1'])}/{short(c['iou'])}<br>n = {c['f1'].n}, {between(c['f1'])}" for c in cells.values()]
        lines.append(f"| {title} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def chosen_set(word: str) -> tuple[str, Path]:
    """`NAME=FOLDER`."""
    name, _, folder = word.partition("=")
    if not name or not folder or not Path(folder).exists():
        raise argparse.ArgumentTypeError(f"{word!r}: expected NAME=FOLDER, and that the folder exists")
    return name, Path(folder)


def arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", choices=["branches", "noise", "shift"], required=True)
    parser.add_argument("--data", type=Path, required=True, help="mix.yaml")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tuned", choices=["lora", "full"], help="how a branch is tuned; else as the preset says")
    parser.add_argument("--set", type=chosen_set, action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--pictures", type=int, default=500, help="of the validation, without --set")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="for measuring")
    parser.add_argument("--workers", type=int, default=2, help="for measuring")
    parser.add_argument("--launch", default="", help="what starts `-m clue_cli train`; else this Python")
    parser.add_argument("rest", nargs="*", metavar="-- OPTION", help="further options of clue train")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    args = arguments(words)
    try:
        preset = preset_of(args.preset)
    except ConfigError as error:
        print(f"{error}.", file=sys.stderr)
        return 2
    try:  # before hours of training
        listed = {name: entries_of(name, folder) for name, folder in args.set}
    except EvaluationError as error:
        print(f"{error}.", file=sys.stderr)
        return 2
    how = [args.tuned or (mode if mode != "frozen" else "full") for mode in (preset.adapt_sd3, preset.adapt_sam)]
    results: dict[str, dict[str, dict[str, Estimate]]] = {}
    for row in rows_of(args.table, *how):
        print(row.title, flush=True)
        code = train_row(command(row, args))
        if code:
            print(f"{row.title}: clue train ended with exit code {code}; nothing is written.", file=sys.stderr)
            return code
        model = args.out / row.folder / "last"
        measured = {name: summarize(on_set(model, entries, args)) for name, entries in listed.items()}
        if not measured:
            measured = {VALIDATION: summarize(on_validation(model, args))}
        results[row.title] = {
            name: {metric: summary.pixel[metric] for metric in ("f1", "iou")} for name, summary in measured.items()
        }
    text = markdown(args.table, results, args)
    plain = {
        title: {name: {metric: cell.to_dict() for metric, cell in cells.items()} for name, cells in sets.items()}
        for title, sets in results.items()
    }
    settings = {"table": args.table, "preset": args.preset, "steps": args.steps, "seed": args.seed, "rest": args.rest}
    print(text)
    try:
        write_text(args.out / f"{args.table}.md", text)
        write_text(args.out / f"{args.table}.json", json.dumps(settings | {"rows": plain}, indent=1) + "\n")
    except OSError as error:
        print(f"{args.out} cannot be written: {error.strerror or error}.", file=sys.stderr)
        return 5
    return 0


if __name__ == "__main__":
    sys.exit(main())
