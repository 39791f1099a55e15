"""The folder that `clue eval` writes to, and its `results.json`: typed and versioned.

measurements.jsonl   what was measured, append-only (`measurements`)
per_image.csv        the same for a spreadsheet
results.json         all figures, written last; `clue eval --schema` prints its JSON Schema
index.html           all of it on one page; plots/ and contact/ hold its pictures as files

Raising `SCHEMA_VERSION`: the first number for a change that breaks a reader, the second for an added field.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clue_cli.errors import NothingToScanError, OutputError
from clue_cli.eval.options import MethodKind, Task
from clue_cli.results.folder import ResultsFolder, output_errors
from model.datasets.sample import Problem
from model.evaluation import Estimate

SCHEMA_VERSION = "1.2"
RESULTS = "results.json"
LOG = "measurements.jsonl"

Scalar = str | int | float | bool | None


class Model(BaseModel):
    """Base of all parts: no unknown keys, no mutation, plain JSON types."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SetRecord(Model):
    """One data set as it was measured."""

    name: Annotated[str, Field(description="Of the benchmark, or the path that was given.")]
    title: Annotated[str, Field(description="The benchmark's full name; empty for a path.")]
    layout: Annotated[str, Field(description="In which layout it was found.")]
    folder: Annotated[str, Field(description="Where it lay.")]
    forged: Annotated[int, Field(description="Forged images that were measured.")]
    authentic: Annotated[int, Field(description="Authentic images that were measured.")]
    held: Annotated[tuple[int, int], Field(description="Forged and authentic images that the folder holds.")]
    expected: Annotated[str, Field(description="What a complete copy holds; empty for a path.")]
    complete: Annotated[bool | None, Field(description="Whether it holds that; null for a path.")]
    digest: Annotated[str, Field(description="SHA-256 over keys, classes and contents of what was measured.")]
    damage: Annotated[list[str], Field(description="What is known to be wrong with the published files.")]
    problems: Annotated[
        list[Problem], Field(description="What is wrong here with the set, and with images that were measured.")
    ]
    elsewhere: Annotated[
        list[Problem],
        Field(description="What listing the set showed to be wrong with images that were not measured."),
    ] = []
    ignored: Annotated[int, Field(description="Files in its folders that are not pictures.")]


class MethodRecord(Model):
    """A method that was measured."""

    name: Annotated[str, Field(description="As the tables show it.")]
    kind: Annotated[
        MethodKind,
        Field(description="`baseline` and `probe` stand beside the others for comparison."),
    ]
    digest: Annotated[str | None, Field(description="SHA-256 of the model or of all maps; null for functions.")]
    details: Annotated[dict[str, Scalar], Field(description="What else its figures depend on.")]


class PixelPoint(Model):
    """Pixel metrics at one threshold, each the mean over forged images."""

    threshold: Annotated[float, Field(description="A pixel counts as marked if its probability is at least this.")]
    precision: Annotated[float | None, Field(description="Over images in which something is marked at this threshold.")]
    recall: Annotated[float, Field(description="Forged pixels that are marked / forged pixels.")]
    false_positive_rate: Annotated[float | None, Field(description="Other pixels that are marked / other pixels.")]


class Reliability(Model):
    """One bin of a reliability diagram."""

    said: Annotated[float, Field(description="Mean stated probability that the image was forged.")]
    was: Annotated[float, Field(description="Share that was forged.")]
    n: Annotated[int, Field(description="Images in the bin.")]


class Curves(Model):
    """What the plots are drawn from."""

    image_roc: Annotated[
        list[tuple[float, float]],
        Field(description="False-positive and true-positive rate; empty without both classes."),
    ]
    image_precision_recall: Annotated[list[tuple[float, float]], Field(description="Recall and precision, likewise.")]
    pixel: Annotated[list[PixelPoint], Field(description="By threshold; empty where no map was scored.")]
    reliability: Annotated[list[Reliability], Field(description="Of the stated probabilities; empty without any.")]


class Outcome(Model):
    """One method on one set under one attack."""

    set: Annotated[str, Field(description="Name of the set.")]
    attack: Annotated[str, Field(description="`none`, or what was done to the pictures first.")]
    simulated: Annotated[bool, Field(description="Whether the attack stands in for a real platform.")]
    method: Annotated[str, Field(description="Name of the method.")]
    settings: Annotated[str, Field(description="SHA-256 of all settings that the figures depend on; names the lines.")]
    forged: Annotated[int, Field(description="Forged images, scored or not.")]
    authentic: Annotated[int, Field(description="Authentic images, scored or not.")]
    pixel: Annotated[dict[str, Estimate], Field(description="Means over forged images with a ground truth.")]
    image: Annotated[dict[str, Estimate], Field(description="Forged against authentic, and false-positive area.")]
    groups: Annotated[
        dict[str, dict[str, dict[str, Estimate]]],
        Field(
            description="The same by edited area, manipulation, format and picture size; by part of the set also image "
            "AUC, shares of verdicts, and the number of sources that intervals are over."
        ),
    ]
    curves: Curves
    problems: Annotated[list[Problem], Field(description="Of single images.")]
    unmeasured: Annotated[int, Field(description="Images for which the method gave no figure, because of a problem.")]


class Average(Model):
    """One method under one attack over all sets."""

    attack: str
    method: str
    sets: Annotated[int, Field(description="Over how many sets.")]
    weighted: Annotated[
        dict[str, Estimate], Field(description="F1 and IoU over all forged images: large sets weigh more.")
    ]
    mean: Annotated[dict[str, float], Field(description="Unweighted mean of the sets' figures.")]


class PublishedRecord(Model):
    """A figure that others published; it was not measured here."""

    method: str
    set: str
    f1: float
    iou: float | None
    source: Annotated[str, Field(description="Where it was published.")]
    note: str


class BarRecord(Model):
    """A figure and the bar that it has to reach or to stay below."""

    name: str
    bar: Annotated[str, Field(description="`≥ 0.54` or `≤ 0.03`.")]
    set: str
    attack: str
    part: Annotated[str, Field(description="Of the set; empty: all of it.")]
    metric: str
    figure: Annotated[Estimate | None, Field(description="Null if it was not measured.")]
    met: Annotated[bool | None, Field(description="By the figure alone, whatever its interval; null without one.")]


class TimingRecord(Model):
    """Where the time of the latest run went; threads overlap."""

    wall_seconds: Annotated[float, Field(description="From the first picture at the network to the last figure.")]
    network_seconds: Annotated[float, Field(description="In the network, the sum over all devices.")]
    share_outside_network: Annotated[
        float | None,
        Field(description="1 − network / wall, of all devices; null if the network did not run, or ran on a cluster."),
    ]
    loading_seconds: Annotated[float, Field(description="Loading the model, before.")]
    predictions: Annotated[int, Field(description="Pictures that the network judged in this run.")]
    seconds_by_step: Annotated[dict[str, float], Field(description="Of all threads: read, decode, attack, measure.")]


class Head(Model):
    """How a result came about."""

    tool: Literal["clue eval"] = "clue eval"
    schema_version: Annotated[str, Field(pattern=r"^\d{1,6}\.\d{1,6}$")] = SCHEMA_VERSION
    version: Annotated[str, Field(description="Version of clue.")]
    status: Annotated[
        Literal["finished", "interrupted"], Field(description="`interrupted`: the figures are over what there was.")
    ]
    started: Annotated[str, Field(description="ISO 8601.")]
    finished: Annotated[str, Field(description="ISO 8601.")]
    command_line: list[str]
    configuration: Annotated[dict[str, Scalar], Field(description="All settings that can change a figure.")]
    seed: Annotated[int, Field(description="Of attacks, of the choice of images, and of the bootstrap.")]
    machine: dict[str, Scalar]


class Results(Head):
    """`results.json`."""

    sets: list[SetRecord]
    absent: Annotated[list[str], Field(description="Benchmarks that `all` did not find.")]
    methods: Annotated[dict[str, list[MethodRecord]], Field(description="By set.")]
    attacks: list[str]
    outcomes: list[Outcome]
    averages: list[Average]
    published: list[PublishedRecord]
    timing: TimingRecord
    bars: Annotated[list[BarRecord], Field(description="What `--bars` named.")] = []

    def outcome(self, name: str, attack: str, method: str) -> Outcome | None:
        """One of the outcomes."""
        wanted = (name, attack, method)
        return next((one for one in self.outcomes if (one.set, one.attack, one.method) == wanted), None)

    def subjects(self) -> list[str]:
        """What the measurement is about: methods that are neither baseline nor probe, each once."""
        kinds = ("network", "predictions", "classical")
        found = [method.name for methods in self.methods.values() for method in methods if method.kind in kinds]
        return list(dict.fromkeys(found))

    def all_methods(self) -> list[str]:
        """Every method, subjects first."""
        found = [method.name for methods in self.methods.values() for method in methods]
        return list(dict.fromkeys([*self.subjects(), *found]))


AnyResults = TypeVar("AnyResults", bound=Head)


def read_results(path: Path, kind: type[AnyResults] = Results) -> AnyResults:  # type: ignore[assignment]
    """The results in a folder, or in a file.

    Args:
        kind: of which task.

    Raises:
        NothingToScanError: there are none, or they are of another version or damaged.
    """
    file = path / RESULTS if path.is_dir() else path
    try:
        return kind.model_validate_json(file.read_bytes())
    except OSError as error:
        raise NothingToScanError(
            f"There are no results of clue eval at {file}: {error.strerror}.", "Name the folder that --out wrote."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where, words = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        raise NothingToScanError(
            f"{file} is not a result that this version can read: {where}: {words}.",
            "Measure again with this version; what is done is not computed again.",
        ) from error


def check_task(folder: Path, task: Task) -> None:
    """Refuse a results folder of the other task.

    Raises:
        OutputError: it holds results of the other one.
    """
    try:
        found = json.loads((folder / RESULTS).read_bytes()).get("task", "localization")
    except (OSError, ValueError, RecursionError, AttributeError):
        return  # there is none, or it will be written again
    if found != task:
        raise OutputError(
            f"{folder} holds results of --task {str(found)[:40]}.", "Choose a folder of its own with --out."
        )


LOCK = ".clue-eval.lock"
PER_IMAGE, PAGE, CARD = "per_image.csv", "index.html", "card.md"
PLOTS, CONTACT = "plots", "contact"
_PICTURES = {PLOTS: ".svg", CONTACT: ".jpg"}
_OURS = {LOG, RESULTS, PER_IMAGE, PAGE, CARD, *_PICTURES, LOCK}


class EvalFolder(ResultsFolder):
    """Where a measurement is written; `in_use` makes it."""

    @property
    def log(self) -> Path:
        """Of what was measured."""
        return self.root / LOG

    @contextmanager
    def in_use(self, *, overwrite: bool = False) -> Iterator[None]:
        """Make and lock it.

        Args:
            overwrite: remove what earlier measurements wrote there.

        Raises:
            OutputError: it cannot be written, is in use, or holds something else.
        """
        with output_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            foreign = self.foreign(_OURS)
        if foreign is not None:
            raise OutputError(
                f"{self.root} holds something else than results of clue eval: {foreign}.",
                "Nothing was changed there. Choose a new or an empty folder with --out.",
            )
        self.lock(LOCK, f"Another measurement is writing to {self.root}.")
        try:
            if overwrite:
                self._clear()
            yield
        finally:
            self.release()

    def replace_pictures(self, folder: str, files: dict[str, bytes]) -> None:
        """Write the files of `PLOTS` or `CONTACT`, and remove those of an earlier measurement."""
        self._clear_pictures(folder, keep=set(files))
        for name, content in files.items():
            self.write(f"{folder}/{name}", content)

    def _clear_pictures(self, folder: str, keep: set[str]) -> None:
        where = self.root / folder
        with output_errors(where):
            stale = sorted(path.name for path in where.glob(f"*{_PICTURES[folder]}")) if where.is_dir() else []
        for name in stale:
            if name not in keep:
                self.remove(f"{folder}/{name}", below=(folder,))

    def _clear(self) -> None:
        """What earlier measurements wrote here, and only that."""
        for folder in _PICTURES:
            self._clear_pictures(folder, set())
        for name in (RESULTS, PAGE, PER_IMAGE, CARD, LOG):
            self.remove(name)
