"""What is measured, from the options: the sets, the attacks, the methods of each set, and the bars that the figures are
compared with. Nothing is computed yet.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clue_cli.errors import DataProblemError, NothingToScanError, UsageError
from clue_cli.eval.methods import PREDICTIONS, Method, Network, PredictionFolder, classical, table_of
from clue_cli.eval.options import EvalOptions
from clue_cli.eval.pictures import Pictures
from clue_cli.eval.results import BarRecord, Outcome
from clue_cli.eval.sets import ChosenSet, resolve
from clue_cli.eval.table import IN_GROUPS, METRICS
from clue_cli.networks import Engine
from model.checkpoint import EMBEDDED
from model.config import ConfigError, Keyed, Text, advising, read_yaml
from model.data.attacks import Attack, AttackError, parse_all
from model.datasets.sample import Problem
from model.evaluation import Found, limited


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


class Plan:
    """One measurement before it begins.

    Args:
        out: the results folder, which must not lie among the data.
        options: what was asked for.

    Attributes:
        attacks: one after the other on each picture; `attacks_on` gives those of one set.
        bars: what the figures are compared with.
        network: None where it is not measured.
        sets: what is measured on.
        absent: benchmarks of a group that are not here.
        methods: of each set, by its name.
        folders: predictions, by the set's name.
        extra: problems of each set, by its name, beyond those that finding it reported.

    Raises:
        UsageError: an attack, a device or a combination of options that cannot be.
        NothingToScanError: a set or the predictions are not there, or no prediction is named like an image.
        WeightsError: there is no such model.
        DataProblemError: strict, and there was a problem.
    """

    def __init__(self, out: Path, options: EvalOptions) -> None:
        self.options = options
        check_engine(options)
        self.bars = read_bars(options.bars) if options.bars else []
        try:
            named = ["none", *(bar.attack for bar in self.bars)]
            self.attacks = parse_all(_separate(options.attacks) or named)
        except AttackError as error:
            raise UsageError(f"--attack: {error}.", "`clue eval --help` lists them with their units.") from error
        if options.predictions is not None and any(attack.steps for attack in self.attacks):
            what = "scores" if options.task == "synthetic" else "maps"
            raise UsageError(
                f"The {what} in --predictions were made from pictures as they are: --attack cannot change them.",
                f"Attack the pictures, make new {what}, and measure those.",
            )
        self.network = Network(options) if options.network else None
        found, self.absent = self._resolve()
        self.sets = [ChosenSet(one, tuple(limited(one.samples, options.limit, options.seed))) for one in found]
        _check_apart(out, self.sets)
        self.folders: dict[str, PredictionFolder] = {}
        self.extra: dict[str, list[Problem]] = {}
        self.methods: dict[str, list[Method]] = {}
        for chosen in self.sets:
            self._prepare(chosen)
        self._check_predictions()

    def attacks_on(self, name: str) -> list[Attack]:
        """The attacks of one set: those that were asked for, else none and those that its bars name."""
        if self.options.attacks or not self.bars:
            return self.attacks
        wanted = {"none", *(bar.attack for bar in self.bars if bar.is_on(name))}
        return [attack for attack in self.attacks if attack.name in wanted]

    def _check_predictions(self) -> None:
        """Raises NothingToScanError if no image that is to be measured has a prediction."""
        looked = [(self.folders[chosen.name], chosen) for chosen in self.sets if chosen.name in self.folders]
        if not looked or any(maps.find(entry)[0] is not None for maps, one in looked for entry in one.samples):
            return
        maps, chosen = looked[0]
        beside = f"; {maps.surplus[0].name} is one of its files" if maps.surplus else ""
        raise NothingToScanError(
            f"No prediction in {maps.folder} is named like an image to be measured, such as {chosen.samples[0].key}"
            f"{beside}.",
            "A map is named like its image, with or without its folder and extension: Tp/a.jpg has Tp/a.npy or a.png.",
        )

    def _resolve(self) -> tuple[list[Found], list[str]]:
        options = self.options
        bench = options.bench or tuple(bar.set for bar in self.bars)
        if not options.strict:
            return resolve(bench, options.root)
        with Pictures(1, options.max_megapixels) as pictures:
            return resolve(bench, options.root, read=pictures.truth, read_head=pictures.header)

    def _prepare(self, chosen: ChosenSet) -> None:
        """The methods of one set, and what is wrong with it beyond what finding it reported."""
        subjects = [] if self.network is None else [self.network.method]
        extra: list[Problem] = []
        if self.options.predictions is not None:
            maps = PredictionFolder(self.options.predictions, chosen.found.name, chosen.found.samples)
            self.folders[chosen.name] = maps
            left_out = chosen.left_out  # of the others, measuring says which have no map
            extra += [*maps.surplus, *(problem for problem in maps.missing if problem.name in left_out)]
            subjects.append(Method(PREDICTIONS, "predictions", maps.digest()))
        self.extra[chosen.name] = []
        self.note(chosen, extra)
        self.methods[chosen.name] = table_of([*subjects, *classical(self.options)])

    def note(self, chosen: ChosenSet, problems: list[Problem]) -> None:
        """Problems of a set that were found later; raises DataProblemError if there are any and it is strict."""
        if problems and self.options.strict:
            more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
            raise DataProblemError(f"{chosen.name}: {problems[0]}{more}.", "Repair it, or leave --strict out.")
        self.extra[chosen.name] += problems


def check_engine(options: EvalOptions) -> None:
    """Raises UsageError if a cluster is to be used for what only this process computes."""
    if options.engine is Engine.RAY and not options.network:
        raise UsageError(
            "--engine ray is for the network, which is not measured here; other methods run in this process.",
            "Leave --engine ray out.",
        )


def _separate(words: Sequence[str]) -> list[str]:
    """Attacks with commas between them; a comma before a digit belongs to one attack, as in `double-jpeg:90,70`."""
    return [part for word in words for part in re.split(r",(?=\s*[a-z])", word) if part.strip()]


def _check_apart(out: Path, sets: list[ChosenSet]) -> None:
    """The results do not lie among the data, nor the data among the results."""
    folder = Path(os.path.realpath(out))
    for chosen in sets:
        found = chosen.found
        data = Path(os.path.realpath(found.folder))
        places = {data: not found.is_list}
        if found.is_list:  # what lies beside a list does not belong to the data
            named = {path.parent for entry in found.samples for path in (entry.image, *entry.masks)}
            places |= {Path(os.path.realpath(place)): True for place in named}
        for place, held in places.items():
            if place.is_relative_to(folder) or (held and folder.is_relative_to(place)):
                raise UsageError(
                    f"The results folder {out} and the data {place} lie in one another.",
                    "Data are never written to: choose a folder of its own with --out.",
                )
