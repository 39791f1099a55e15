"""What is measured: the network, maps of others, functions; and which settings their figures depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

from clue_cli.eval.options import EvalOptions
from clue_cli.networks import Network as RunningNetwork
from clue_cli.networks import find_devices, find_model, networks_for
from clue_cli.terminal import printable
from model.data.attacks import Attack
from model.evaluation import CLASSICAL, TRIVIAL
from model.evaluation.baselines import Method as MapFunction
from model.evaluation.pixel_scores import THRESHOLD
from model.images.maps import RESIZE

Kind = Literal["network", "predictions", "classical", "baseline", "probe"]

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
        digest: SHA-256 of a model, or of the maps of a set; None for functions.
        details: what else its figures depend on, such as the number format.
        function: from pixels to a map; None for the network, predictions and the probe.
        sees_pixels: whether an attack can change its figures.
        preset: of the network; it stands for the name in the digest of the settings, as in version 0.1.0.
    """

    name: str
    kind: Kind
    digest: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    function: MapFunction | None = None
    sees_pixels: bool = True
    preset: str = ""

    @property
    def subject(self) -> bool:
        """Whether it is what the measurement is about, not what stands beside it."""
        return self.kind in ("network", "predictions", "classical")

    def settings(self, attack: Attack, seed: int) -> str:
        """SHA-256, hex, over all that the figures depend on apart from the image."""
        attacked = self.sees_pixels and bool(attack.steps)
        parts = {
            "measure": MEASURE,
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
        checkpoint = self.checkpoint
        name = printable(checkpoint.name)
        if name in {PREDICTIONS, *(method.name for method in baselines()), *CLASSICAL}:
            name = f"network {name}"
        return Method(name, "network", checkpoint.digest, details, preset=printable(checkpoint.preset.name))

    def networks(self, warn: Callable[[str], None]) -> AbstractContextManager[list[RunningNetwork]]:
        """One for each device, as `networks_for`."""
        return networks_for(self.checkpoint, self._devices, self._dtype, self._options, warn)
