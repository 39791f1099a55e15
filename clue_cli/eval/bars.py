"""Bars: figures that a model has to reach or to stay below, in a YAML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clue_cli.eval.results import BarRecord, Outcome
from clue_cli.eval.table import IN_GROUPS, METRICS
from model.checkpoint import EMBEDDED
from model.config import ConfigError, Keyed, Text, advising, read_yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar(Keyed):
    """One bar.

    Attributes:
        set: name of the benchmark; `made` stands for any number of made pictures.
        part: of the set, such as `camera`; empty: all of it.
        metric: its name in `results.json`, such as `f1` or `authentic_called_forged`.
    """

    name: Text
    set: Text
    metric: Text
    attack: Text = "none"
    part: Text = ""
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("either `at_least` or `at_most`")
        if self.metric not in (known := METRICS | IN_GROUPS):
            raise ConfigError("metric", f"`{self.metric}`", f"one of {', '.join(known)}")

    def met_by(self, value: float | None) -> bool:
        """Whether a figure meets it; one that is not defined does not."""
        if value is None:
            return False
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def is_on(self, name: str) -> bool:
        """Whether it is about the set of this name."""
        return self.set in (name, name.partition(":")[0])


@dataclass(frozen=True, slots=True)
class _File(Keyed):
    bars: tuple[Bar, ...]


def read_bars(word: str) -> list[Bar]:
    """The bars of a file, or those that the embedded model ships, by its name.

    Raises:
        ConfigError: no such file, or what is wrong in it.
    """
    path = EMBEDDED / "bars.yaml" if word == EMBEDDED.name else Path(word)
    with advising("The model card and `model/weights/mini/bars.yaml` show such a file."):
        return list(read_yaml(path).check(_File).bars)


def compared(bar: Bar, outcomes: Sequence[Outcome], kinds: Mapping[str, str]) -> BarRecord:
    """A bar and its figure: of the network, or else of the first method.

    Args:
        outcomes: of a measurement.
        kinds: of the methods, by name.
    """
    figure = None
    on = [one for one in outcomes if bar.is_on(one.set) and one.attack == bar.attack]
    for one in sorted(on, key=lambda one: kinds[one.method] != "network")[:1]:
        cells = one.groups.get("part", {}).get(bar.part, {}) if bar.part else one.pixel | one.image
        figure = cells.get(bar.metric)
    return BarRecord(
        name=bar.name,
        bar=f"≤ {bar.at_most:g}" if bar.at_least is None else f"≥ {bar.at_least:g}",
        set=bar.set,
        attack=bar.attack,
        part=bar.part,
        metric=bar.metric,
        figure=figure,
        met=None if figure is None else bar.met_by(figure.value),
    )
