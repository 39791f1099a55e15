"""What is measured: the network, other methods' maps, and functions; what their figures depend on, and what each makes
of one picture.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from clue_cli.errors import NothingToScanError, UsageError
from clue_cli.eval.measurements import Measurement, pixel_curve
from clue_cli.eval.options import EvalOptions, MethodKind
from clue_cli.eval.pictures import Pictures
from clue_cli.eval.sets import ChosenSet
from clue_cli.evidence.reader import sha256_file
from clue_cli.networks import Network as RunningNetwork
from clue_cli.networks import Runtime, find_devices, find_model, networks_for
from clue_cli.terminal import printable
from model.calibration import Calibration
from model.data.attacks import Attack
from model.datasets.registry import DATASETS
from model.datasets.sample import Kind, Problem, Sample
from model.evaluation import CLASSICAL, TRIVIAL, Ground, ImageRow, measure
from model.evaluation.baselines import Method as MapFunction
from model.evaluation.pixel_scores import THRESHOLD
from model.images.folders import files_below, is_file
from model.images.maps import RESIZE, SUFFIXES, Map, is_finite, to_size
from model.images.pairing import Index
from model.images.pixels import DamagedFileError, Pixels
from model.predictor import Prediction
from model.score import image_score
from model.verdict import judge

METADATA = "metadata alone"
PREDICTIONS = "predictions"
SCORE_CELLS = 24
"""Score of an image where a method gives only a map: the mean of its strongest 24 cells of 8×8 pixels."""
MEASURE: dict[str, str | float] = {"threshold": THRESHOLD, "resize": RESIZE, "score_cells": SCORE_CELLS, "version": 2}
"""How everything is measured; part of each settings digest."""

_ELA = "error level analysis"


@dataclass(frozen=True, slots=True)
class Method:
    """One line of a table.

    Attributes:
        name: as it is shown.
        kind: `detector` is a method of the synthetic task.
        digest: SHA-256 of a model, or of the maps of a set; None for functions.
        details: what else its figures depend on, such as the number format.
        function: from pixels to a map; None for the network, predictions and the probe.
        sees_pixels: whether an attack can change its figures.
        preset: of the network; it stands for the name in the digest of the settings, as in version 0.1.0.
        measure: how it is measured.
    """

    name: str
    kind: MethodKind | Literal["detector"]
    digest: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    function: MapFunction | None = None
    sees_pixels: bool = True
    preset: str = ""
    measure: dict[str, str | float] = field(default_factory=lambda: MEASURE)

    @property
    def subject(self) -> bool:
        """Whether it is what the measurement is about, not what stands beside it."""
        return self.kind in ("network", "predictions", "classical", "detector")

    def settings(self, attack: Attack, seed: int) -> str:
        """SHA-256, hex, over all that the figures depend on apart from the image."""
        attacked = self.sees_pixels and bool(attack.steps)
        parts = {
            "measure": self.measure,
            "method": self.preset or self.name,
            "kind": self.kind,
            "digest": self.digest,
            "details": self.details,
            "attack": attack.name if attacked else "none",
            "seed": seed if attacked else None,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def baselines() -> list[Method]:
    """What stands in every table: all forged, none forged, centre box, error level analysis, and metadata alone."""
    trivial = [Method(name, "baseline", function=function, sees_pixels=False) for name, function in TRIVIAL.items()]
    ela = Method(_ELA, "baseline", function=CLASSICAL[_ELA])
    return [*trivial, ela, Method(METADATA, "probe", sees_pixels=False)]


def classical(options: EvalOptions) -> list[Method]:
    """The classical methods that were asked for."""
    return [Method(name, "classical", function=CLASSICAL[name]) for name in options.functions]


def table_of(subjects: list[Method]) -> list[Method]:
    """The subjects and what stands beside them, each name once."""
    names = {method.name for method in subjects}
    return [*subjects, *(method for method in baselines() if method.name not in names)]


class Network:
    """A model and where it runs; its weights are read when the first image comes.

    Attributes:
        checkpoint: of the model.

    Raises:
        WeightsError: there is no such model.
        UsageError: no such device, or no compiler where it is to be compiled.
    """

    def __init__(self, options: EvalOptions) -> None:
        self.checkpoint = find_model(options.model)
        self._devices, self._dtype = find_devices(options, options.dtype)
        self._options = options

    @property
    def method(self) -> Method:
        """As a line of the tables."""
        details = {
            "device": self._devices[0].partition(":")[0],
            "dtype": str(self._dtype).removeprefix("torch."),
            "calibration": self.checkpoint.calibration.name,
        }
        if self._options.compile is not None:  # its maps differ in their last bits
            details["compile"] = self._options.compile.value
        if self._options.runtime is not Runtime.TORCH:
            details["runtime"] = self._options.runtime.version
        checkpoint = self.checkpoint
        name = printable(checkpoint.name)
        if name in {PREDICTIONS, *(method.name for method in baselines()), *CLASSICAL}:
            name = f"network {name}"
        return Method(name, "network", checkpoint.digest, details, preset=printable(checkpoint.preset.name))

    def networks(self, warn: Callable[[str], None]) -> AbstractContextManager[list[RunningNetwork]]:
        """One for each device, as `networks_for`."""
        return networks_for(self.checkpoint, self._devices, self._dtype, self._options, warn)


class PredictionFolder:
    """The maps of one set.

    A map is named like its image: by the whole path below the set's folder with the image's extension, or without it,
    or by the last part alone with it, or without (`Tp/a.jpg`: `Tp/a.jpg.npy`, `Tp/a.png`, `a.jpg.npy`, `a.png`). Where
    a name could mean several images, it means the one that it says most of; if that are several, none.

    Args:
        folder: the maps, or a folder that holds one folder for each set.
        name: of the set, or its path.
        entries: all images of the set.

    Attributes:
        folder: where the maps were looked for.
        surplus: maps that belong to no image, and folders that are not read.
        missing: images of the set that have no map, or several.

    Raises:
        NothingToScanError: no such folder, or it holds no map.
        UsageError: a map is a mask of the set.
    """

    def __init__(self, folder: Path, name: str, entries: Iterable[Sample]) -> None:
        if not folder.is_dir():
            raise NothingToScanError(
                f"There is no folder {folder}.",
                "--predictions names a folder of PNG or NPY maps, named like the images.",
            )
        # A set that was given as a path goes by its last part
        own = folder / (name if name in DATASETS else Path(os.path.realpath(name)).name)
        self.folder = own if own.is_dir() else folder
        unread: list[Problem] = []

        def failed(path: Path, why: str) -> None:
            name = path.relative_to(self.folder.parent).as_posix()
            unread.append(Problem(Kind.FOLDER_UNREADABLE, name, why))

        kinds: dict[bool, list[tuple[str, Path]]] = {True: [], False: []}
        for path in sorted(files_below(self.folder, failed)):
            named = path.relative_to(self.folder).with_suffix("").as_posix()
            kinds[path.suffix.lower() in SUFFIXES and is_file(path)].append((named, path))
        self._maps, self._others = Index(kinds[True]), Index(kinds[False])
        if not kinds[True]:
            raise NothingToScanError(
                f"{self.folder} holds no map.", "Maps are .npy or one-channel .png, named like the images."
            )
        entries = list(entries)
        self._owners = _owners(entries)
        self._of = {entry.key: self._find(entry) for entry in entries}
        _check_no_mask({path for paths in self._of.values() for path in paths}, entries)
        self.surplus = unread + [
            Problem(Kind.MAP_WITHOUT_IMAGE, path.relative_to(self.folder).as_posix()) for path in self._maps.unused()
        ]
        lacking = [entry for entry in entries if len(self._of[entry.key]) != 1]
        self.missing = [Problem(Kind.MAP_MISSING, entry.key, self.find(entry)[1]) for entry in lacking]

    def find(self, entry: Sample) -> tuple[Path | None, str]:
        """The map of an image, or None and why not."""
        paths = self._of[entry.key]
        if len(paths) == 1:
            return paths[0], ""
        if paths:
            return None, f"{len(paths)} maps are named like it"
        others = self._others.find(self._names(entry))
        return None, f"{others[0].name} is not a .npy or .png file" if others else ""

    def digest(self) -> str:
        """SHA-256, hex, over the names and contents of all maps. A map that cannot be read counts as such."""
        total = hashlib.sha256(b"clue maps 1\n")
        for stem, paths in sorted(self._maps.by_name.items()):
            for path in paths:
                try:
                    content = sha256_file(path)
                except OSError:
                    content = "unreadable"
                total.update(f"{stem!a} {path.suffix} {content}\n".encode())
        return total.hexdigest()

    def _find(self, entry: Sample) -> list[Path]:
        return self._maps.find(self._names(entry))

    def _names(self, entry: Sample) -> list[str]:
        """Those that mean this image alone, the one that says most first."""
        return [name for name in _names_of(entry) if self._owners[name] == entry.key]


def _names_of(entry: Sample) -> list[str]:
    key = PurePosixPath(entry.key)
    return list(dict.fromkeys([entry.key, key.with_suffix("").as_posix(), key.name, key.stem]))


def _owners(entries: list[Sample]) -> dict[str, str | None]:
    """Which image each name means; None: several."""
    owners: dict[str, str | None] = {}
    fewest_dropped: dict[str, int] = {}
    for entry in entries:
        for dropped, name in enumerate(_names_of(entry)):
            if dropped < fewest_dropped.get(name, dropped + 1):
                owners[name], fewest_dropped[name] = entry.key, dropped
            elif dropped == fewest_dropped[name]:
                owners[name] = None
    return owners


def _check_no_mask(maps: set[Path], entries: list[Sample]) -> None:
    masks = {os.path.realpath(mask) for entry in entries for mask in entry.masks}
    wrong = next((path for path in sorted(maps) if os.path.realpath(path) in masks), None)
    if wrong is not None:
        raise UsageError(
            f"{wrong} is ground truth of the set, not a prediction.", "Name the folder of the method's own maps."
        )


@dataclass(frozen=True, slots=True)
class Shot:
    """One image under one attack, and the methods that are still to be measured on it.

    Attributes:
        pixels: H×W×3 uint8, as stored, attacked; None if they could not be had.
        ground: header and ground truth, the same under every attack.
        native: height and width before the attack.
        problem: why there are no pixels.
    """

    chosen: ChosenSet
    entry: Sample
    image: str
    attack: Attack
    methods: tuple[Method, ...]
    pixels: Pixels | None
    ground: Ground
    native: tuple[int, int] = (0, 0)
    problem: Problem | None = None
    cost: int = 0

    @property
    def for_network(self) -> Pixels | None:
        """The pixels, if the network is to be measured on them."""
        return self.pixels if any(method.kind == "network" for method in self.methods) else None


def measure_shot(
    shot: Shot,
    method: Method,
    prediction: Prediction[Shot] | None,
    pictures: Pictures,
    *,
    calibration: Calibration | None = None,
    folder: PredictionFolder | None = None,
) -> Measurement:
    """The figures of one method; what went wrong is named in their row, and never raised.

    Args:
        prediction: of the network; None if it did not run.
        pictures: reads the maps of `folder`.
        calibration: of the network; needed where it ran.
        folder: predictions for the shot's set; needed by the method that measures them.
    """
    if method.kind == "predictions":
        assert folder is not None
        found = _prediction(shot, folder, pictures)
    else:
        found = _figures(shot, method, prediction, calibration)
    return replace(found, inverted=shot.ground.inverted)


def _figures(
    shot: Shot, method: Method, prediction: Prediction[Shot] | None, calibration: Calibration | None
) -> Measurement:
    pixels = shot.pixels
    if method.kind == "probe":
        row = _row(shot, None)
        about = ImageRow(row.key, row.forged, row.manipulation, row.format, row.width, row.height)
        header = shot.ground.header
        return Measurement(about, signature=header.signature if header else "")
    if not method.sees_pixels:
        function = method.function
        if function is None or shot.native == (0, 0):
            return _failed(shot)
        return _scored(shot, function(np.broadcast_to(np.uint8(0), (*shot.native, 3))), shot.native)
    if pixels is None or (method.kind == "network" and prediction is None):
        return _failed(shot)
    if method.function is not None:
        return _scored(shot, method.function(pixels), pixels.shape[:2], curve=True)
    assert prediction is not None and calibration is not None
    heatmap = prediction.heatmap
    said: dict[str, Any] = {}
    with suppress(ValueError):  # not finite: `measure` says so
        finding = judge(pixels, heatmap, prediction.features, calibration)
        megapixels = pixels.shape[0] * pixels.shape[1] / 1e6
        covered = calibration.of(prediction.features).covers(megapixels)
        said = {
            "score": finding.score,
            "probability": calibration.p_forged(finding.score) if covered else None,
            "decided": finding.verdict == "forged",
            "verdict": finding.verdict,
        }
    return _with_curve(_row(shot, heatmap, seen=pixels.shape[:2], **said), shot, heatmap)


def _prediction(shot: Shot, folder: PredictionFolder, pictures: Pictures) -> Measurement:
    path, why = folder.find(shot.entry)
    if path is None:
        row = _row(shot, None)
        if why:
            row = _replaced(row, Problem(Kind.MAP_MISSING, shot.entry.key, why))
        return Measurement(row)
    try:
        values = pictures.map(path)
    except DamagedFileError as error:
        return Measurement(_replaced(_row(shot, None), Problem(Kind.MAP_UNREADABLE, shot.entry.key, str(error))))
    return _scored(shot, values, shot.native if shot.native != (0, 0) else None, curve=True)


def _row(shot: Shot, heatmap: Map | None, **said: Any) -> ImageRow:
    return measure(shot.entry, heatmap, known=shot.ground, **said)


def _scored(shot: Shot, values: Map, seen: tuple[int, int] | None, *, curve: bool = False) -> Measurement:
    """A map that comes without an image-level score: see `methods.SCORE_CELLS`."""
    said: dict[str, Any] = {}
    if values.ndim == 2 and values.size and is_finite(values):
        score = image_score(values, SCORE_CELLS)
        said = {"score": score, "decided": score > 0.5}
    row = _row(shot, values, seen=seen, **said)
    if any(problem.kind is Kind.MAP_OUT_OF_RANGE for problem in row.problems):
        row = replace(row, score=None, decided=None)
    return _with_curve(row, shot, values) if curve else Measurement(row)


def _with_curve(row: ImageRow, shot: Shot, heatmap: Map) -> Measurement:
    truth = shot.ground.truth
    if row.f1 is None or truth is None:
        return Measurement(row)
    return Measurement(row, pixel_curve(to_size(heatmap, *truth.shape), truth))


def _failed(shot: Shot) -> Measurement:
    """No map, because there were no pixels, or no memory for them."""
    problem = shot.problem or Problem(Kind.IMAGE_UNREADABLE, shot.entry.key)
    return Measurement(_replaced(_row(shot, None), problem), failed=True)


def _replaced(row: ImageRow, problem: Problem) -> ImageRow:
    """The row with this problem in place of "prediction missing" and of what else was said of the same kind."""
    others = [p for p in row.problems if p.kind not in (Kind.MAP_MISSING, problem.kind)]
    return replace(row, problems=(*others, problem))
