"""`results.json` of `clue eval --task synthetic`: typed and versioned. The folder is that of every `clue eval`.

Raising `SCHEMA_VERSION`: the first number for a change that breaks a reader, the second for an added field.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from clue_cli.eval.results import RESULTS, Head, Model, Reliability, Results, Scalar, TimingRecord, read_results
from model.datasets.sample import Problem
from model.evaluation import Estimate
from model.evaluation.detection import WORDS, Status

SCHEMA_VERSION = "1.0"

METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "accuracy_at_half": "accuracy at 0.5",
    "image_auc": "AUC",
    "average_precision": "average precision",
    "tpr_at_fpr_1": "true positives at 1 % false positives",
    "tpr_at_fpr_5": "true positives at 5 % false positives",
    "calibration_error": "expected calibration error",
    "brier": "Brier score",
}
"""Metrics and what they are called. `accuracy` and `balanced_accuracy` are at the method's own threshold, where what is
not called generated counts as called real; `accuracy_at_half` calls generated what scores above 0.5, as papers do."""

Kind = Literal["method", "predictions", "baseline"]
Figures = dict[str, Estimate]


class Counts(Model):
    """Pictures by class."""

    real: int
    generated: int
    laundered: Annotated[
        int,
        Field(description="Real photographs that passed a generator's autoencoder: neither real nor generated."),
    ]


class GeneratedSet(Model):
    """One set as it was measured."""

    name: Annotated[str, Field(description="The path that was given.")]
    layout: Annotated[str, Field(description="In which layout it was found.")]
    folder: Annotated[str, Field(description="Where it lay.")]
    measured: Counts
    held: Annotated[Counts, Field(description="What the folder or list holds.")]
    formats: Annotated[dict[str, dict[str, int]], Field(description="Class → format of the file → measured pictures.")]
    digest: Annotated[str, Field(description="SHA-256 over keys, classes and contents of what was measured.")]
    problems: Annotated[list[Problem], Field(description="What is wrong with the set, and with measured pictures.")]
    elsewhere: Annotated[list[Problem], Field(description="Likewise with pictures that were not measured.")]
    ignored: Annotated[int, Field(description="Files in its folders that are not pictures.")]


class DetectorRecord(Model):
    """A method that was measured."""

    name: Annotated[str, Field(description="As the tables show it.")]
    kind: Annotated[Kind, Field(description="A `baseline` sees no pixel; it stands beside the others.")]
    digest: Annotated[str | None, Field(description="SHA-256 of the method or of the predictions; null: baseline.")]
    details: Annotated[dict[str, Scalar], Field(description="What else its figures depend on.")]
    generators: Annotated[
        list[str] | None, Field(description="Generators that it learned from, by name; null: not known.")
    ]
    limits: Annotated[list[str], Field(description="What a reader must know of it, in sentences.")]


class GeneratorRecord(Model):
    """Figures on the pictures of one generator against the real ones that belong to it."""

    name: str
    status: Annotated[
        Status, Field(description="Whether the method learned from a generator of this name; names alone are compared.")
    ]
    real: Annotated[int, Field(description="Real pictures, scored or not; several generators may share them.")]
    generated: int
    figures: Figures


class DetectionCurves(Model):
    """What the plots are drawn from."""

    roc: Annotated[list[tuple[float, float]], Field(description="False-positive and true-positive rate.")]
    reliability: Annotated[list[Reliability], Field(description="Of the stated probabilities; empty without any.")]


class SyntheticOutcome(Model):
    """One method on one set under one attack."""

    set: Annotated[str, Field(description="Name of the set.")]
    attack: Annotated[str, Field(description="`none`, or what was done to the pictures first.")]
    simulated: Annotated[bool, Field(description="Whether the attack stands in for a real platform.")]
    method: Annotated[str, Field(description="Name of the method.")]
    settings: Annotated[str, Field(description="SHA-256 of all settings that the figures depend on; names the lines.")]
    pictures: Annotated[Counts, Field(description="Scored or not.")]
    overall: Annotated[
        Figures,
        Field(
            description="Real against generated: the metrics, and shares of verdicts such as `real_called_generated`, "
            "whose intervals are exact (Clopper and Pearson)."
        ),
    ]
    generators: list[GeneratorRecord]
    means: Annotated[
        dict[str, Figures],
        Field(
            description="Mean over `all`, `unseen` or `seen` generators that have the figure, each weighing alike; n: "
            "pictures."
        ),
    ]
    laundered: Annotated[
        Figures, Field(description="Shares of verdicts among laundered pictures, and `image_auc` against real ones.")
    ]
    curves: DetectionCurves
    problems: Annotated[list[Problem], Field(description="Of single pictures.")]
    unmeasured: Annotated[int, Field(description="Pictures for which the method gave no score.")]


class PublishedDetection(Model):
    """A figure that others published; it was not measured here."""

    method: str
    metric: str
    value: float
    over: Annotated[str, Field(description="What it is a figure of.")]
    source: Annotated[str, Field(description="Where it was published.")]
    note: str


class SyntheticResults(Head):
    """`results.json` of the synthetic task."""

    task: Literal["synthetic"] = "synthetic"
    schema_version: Annotated[str, Field(pattern=r"^\d{1,6}\.\d{1,6}$")] = SCHEMA_VERSION
    sets: list[GeneratedSet]
    methods: Annotated[dict[str, list[DetectorRecord]], Field(description="By set.")]
    attacks: list[str]
    outcomes: list[SyntheticOutcome]
    published: list[PublishedDetection]
    warnings: Annotated[
        list[str], Field(description="What makes the classes differ beside their content, such as file formats.")
    ]
    timing: TimingRecord

    def outcome(self, name: str, attack: str, method: str) -> SyntheticOutcome | None:
        """One of the outcomes."""
        wanted = (name, attack, method)
        return next((one for one in self.outcomes if (one.set, one.attack, one.method) == wanted), None)

    def subjects(self) -> list[str]:
        """What the measurement is about: methods that are no baseline, each once."""
        found = [method.name for methods in self.methods.values() for method in methods if method.kind != "baseline"]
        return list(dict.fromkeys(found))

    def all_methods(self) -> list[str]:
        """Every method, subjects first."""
        found = [method.name for methods in self.methods.values() for method in methods]
        return list(dict.fromkeys([*self.subjects(), *found]))


def read_any(path: Path) -> Results | SyntheticResults:
    """The results of either task in a folder, or in a file.

    Raises:
        NothingToScanError: there are none, or they are of another version or damaged.
    """
    file = path / RESULTS if path.is_dir() else path
    task = None
    try:
        content = json.loads(file.read_bytes())
        task = content.get("task") if isinstance(content, dict) else None
    except (OSError, ValueError, RecursionError):
        pass  # said below
    return read_results(path, SyntheticResults) if task == "synthetic" else read_results(path)


SHARES = {
    f"{label}_called_{word}": f"{label} called {word.replace('_', ' ')}"
    for label in ("real", "generated", "laundered")
    for word in WORDS
}
"""Shares of verdicts and what they are called."""


def figures_of(results: SyntheticResults, method: str) -> dict[str, dict[str, dict[str, Any]]]:
    """What the card of a method says of its measurement (`model.synthetic.card`), in JSON types.

    Returns:
        Set, and attack if there was one → figure in words → `value`, `low`, `high`, `n`; those of the baselines and of
        single generators among them.
    """
    found = {}
    for record in results.sets:
        for attack in results.attacks:
            one = results.outcome(record.name, attack, method)
            if one is None:
                continue
            figures = {words: one.overall.get(name) for name, words in (METRICS | SHARES).items()}
            figures |= {words: one.laundered[name] for name, words in SHARES.items() if name in one.laundered}
            figures["AUC, laundered against real"] = one.laundered.get("image_auc")
            for status, mean in one.means.items():
                figures |= {f"mean over {status} generators: {METRICS[name]}": cell for name, cell in mean.items()}
            for generator in one.generators:
                for name in ("accuracy", "accuracy_at_half", "image_auc", "average_precision"):
                    words = f"{generator.name} ({generator.status}): {METRICS[name]}"
                    figures[words] = generator.figures.get(name)
            for baseline in results.methods[record.name]:
                beside = results.outcome(record.name, attack, baseline.name)
                if baseline.kind == "baseline" and beside is not None and attack == "none":
                    figures[f"baseline, {baseline.name}: AUC"] = beside.overall.get("image_auc")
            section = record.name if attack == "none" else f"{record.name} after {attack}"
            found[section] = {words: cell.to_dict() for words, cell in figures.items() if cell is not None}
    return found
