"""A whole measurement: from options to a results folder.

measurements.jsonl   what was measured, append-only (`measurements`)
per_image.csv        the same for a spreadsheet
results.json         all figures (`results`), written last
index.html           all of it on one page; plots/ and contact/ hold its pictures as files
"""

from __future__ import annotations

import os
import platform
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from clue_cli import __version__
from clue_cli.errors import DataProblemError, OutputError, UsageError
from clue_cli.eval import contact, page
from clue_cli.eval.assemble import average, outcome, rows_of, set_record, status_of
from clue_cli.eval.measurements import MeasurementLog
from clue_cli.eval.methods import MEASURE, PREDICTIONS, Method, classical, table_of
from clue_cli.eval.options import EvalOptions
from clue_cli.eval.per_image import PerImageTable
from clue_cli.eval.pictures import Pictures, Pixels
from clue_cli.eval.plots import draw, slug
from clue_cli.eval.predictions import PredictionFolder
from clue_cli.eval.progress import EvalProgress
from clue_cli.eval.published import SOURCE, published_for
from clue_cli.eval.results import (
    LOG,
    RESULTS,
    Average,
    MethodRecord,
    Outcome,
    PublishedRecord,
    Results,
    Scalar,
    TimingRecord,
)
from clue_cli.eval.runner import Run
from clue_cli.eval.sets import ChosenSet, resolve
from clue_cli.scan.folder import OutputFolder, output_errors
from clue_cli.scan.network import check_compile, find_device, find_model, load_predictor
from clue_cli.scan.options import ScanOptions
from clue_cli.terminal import printable
from model.data.attacks import Attack, AttackError, parse_all
from model.evaluation import Entry, Found, Problem, UnreadablePicture, inverted_set, limited
from model.evaluation.bootstrap import RESAMPLES
from model.evaluation.maps import Map
from model.evaluation.truth import Mask

if TYPE_CHECKING:
    import torch

    from model.predictor import Predictor

LOCK = ".clue-eval.lock"
_PER_IMAGE, _PAGE, _PLOTS, _CONTACT = "per_image.csv", "index.html", "plots", "contact"
_OURS = {LOG, RESULTS, _PER_IMAGE, _PAGE, _PLOTS, _CONTACT, LOCK, ".tmp", ".DS_Store", "Thumbs.db", "desktop.ini"}


def evaluate(out: Path, options: EvalOptions, progress: EvalProgress, stop: threading.Event | None = None) -> Results:
    """Measure, and write the results folder.

    Args:
        stop: set to end early; what is finished stays in the log, and the same call goes on from there.

    Raises:
        UsageError: an attack, a device or a combination of options that cannot be.
        NothingToScanError: a set or the predictions are not there.
        WeightsError: the model is missing or damaged.
        OutputError: the results folder cannot be written, is in use, or holds something else.
        DataProblemError: strict, and there was a problem.
    """
    session = _Session(out, options, progress, stop or threading.Event())
    with session.folder_in_use():
        return session.measure()


class _Network:
    """The network, built when it is first needed."""

    def __init__(self, options: EvalOptions) -> None:
        self.checkpoint = find_model(options.model)
        self.device, self.dtype = find_device(options.device, options.dtype)
        check_compile(options.compile)
        self.compile = options.compile

    @property
    def method(self) -> Method:
        """As a line of the tables."""
        details = {
            "device": self.device.partition(":")[0],
            "dtype": _dtype_name(self.dtype),
            "calibration": self.checkpoint.calibration.name,
        }
        if self.compile is not None:  # its maps differ in their last bits
            details["compile"] = self.compile.value
        return Method(printable(self.checkpoint.preset.name), "network", self.checkpoint.digest, details)

    @cached_property
    def predictor(self) -> Predictor:
        """Raises WeightsError, or UsageError where the device has not the memory for it."""
        return load_predictor(self.checkpoint, self.device, self.dtype, ScanOptions(compile=self.compile))


class _Session:
    def __init__(self, out: Path, options: EvalOptions, progress: EvalProgress, stop: threading.Event) -> None:
        self.out, self.options, self.progress, self.stop = out, options, progress, stop
        self.started = _now()
        try:
            self.attacks = parse_all(_separate(options.attacks) or ["none"])
        except AttackError as error:
            raise UsageError(f"--attack: {error}.", "`clue eval --help` shows examples.") from error
        if options.predictions is not None and any(attack.steps for attack in self.attacks):
            raise UsageError(
                "The maps in --predictions were made from pictures as they are: --attack cannot change them.",
                "Attack the pictures, make the maps anew, and measure those.",
            )
        self.network = _Network(options) if options.network else None
        self.found, self.absent = self._resolve()
        self.sets = [
            ChosenSet(found, tuple(limited(found.entries, options.limit, options.seed))) for found in self.found
        ]
        _check_apart(out, self.sets)
        self.folders: dict[str, PredictionFolder] = {}
        self.extra: dict[str, list[Problem]] = {}
        self.methods: dict[str, list[Method]] = {}
        for chosen in self.sets:
            self._prepare(chosen)
        self.folder = OutputFolder(out)

    def _resolve(self) -> tuple[list[Found], list[str]]:
        options = self.options
        if not options.strict:
            return resolve(options.bench, options.root)
        with Pictures(1, options.max_megapixels) as pictures:
            return resolve(options.bench, options.root, read=pictures.truth, read_head=pictures.header)

    def _prepare(self, chosen: ChosenSet) -> None:
        """The methods of one set, and what is wrong with it beyond what finding it has told."""
        subjects = [] if self.network is None else [self.network.method]
        extra: list[Problem] = []
        if self.options.predictions is not None:
            maps = PredictionFolder(self.options.predictions, chosen.found.name, chosen.found.entries)
            self.folders[chosen.name] = maps
            left_out = chosen.left_out  # of the others, measuring says which have no map
            extra += [*maps.surplus, *(problem for problem in maps.missing if problem.name in left_out)]
            subjects.append(Method(PREDICTIONS, "predictions", maps.digest()))
        self.extra[chosen.name] = []
        self._note(chosen, extra)
        self.methods[chosen.name] = table_of([*subjects, *classical(self.options)])

    def _note(self, chosen: ChosenSet, problems: list[Problem]) -> None:
        """Raises DataProblemError if there are any and it is strict."""
        if problems and self.options.strict:
            more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
            raise DataProblemError(f"{chosen.name}: {problems[0]}{more}.", "Repair it, or leave --strict out.")
        self.extra[chosen.name] += problems

    @contextmanager
    def folder_in_use(self) -> Iterator[None]:
        """The results folder, made and locked."""
        with output_errors(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
            foreign = sorted(path.name for path in self.out.iterdir() if path.name not in _OURS)
        if foreign:
            raise OutputError(
                f"{self.out} holds something else than results of clue eval: {foreign[0]}.",
                "Nothing was changed there. Choose a new or an empty folder with --out.",
            )
        lock = FileLock(self.out / LOCK, thread_local=False)
        with output_errors(self.out):
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise OutputError(
                    f"Another measurement is writing to {self.out}.", "Wait until it is done, or choose another --out."
                ) from error
        try:
            self.folder.clear_temporary()
            if self.options.overwrite:
                self._clear()
            yield
            self.folder.clear_temporary()
        finally:
            lock.release()

    def measure(self) -> Results:
        for chosen in self.sets:
            forged = sum(entry.forged for entry in chosen.entries)
            self.progress.say(f"{chosen.name}: {forged} forged, {len(chosen.entries) - forged} authentic")
            self._warn(chosen)
        with output_errors(self.out / LOG), MeasurementLog(self.out / LOG) as log:
            if log.unreadable:
                self.progress.say(f"warning: {log.unreadable} lines of {LOG} cannot be read; they are measured again")
            run = Run(
                self.sets,
                self.methods,
                self.attacks,
                log,
                self.progress,
                self.stop,
                load=None if self.network is None else self._load,
                calibration=None if self.network is None else self.network.checkpoint.calibration,
                folders=self.folders,
                seed=self.options.seed,
                strict=self.options.strict,
                max_megapixels=self.options.max_megapixels,
            )
            run.run()
            for chosen in self.sets:
                self._look_for_inverted(chosen, log, run)
            results = self._results(log, run)
            plots = draw(results)
            sheets = [] if self.stop.is_set() else self._sheets(log, run)
        self._replace_pictures(_PLOTS, ".svg", {plot.name: plot.svg.encode() for plot in plots})
        self._write(_PAGE, page.render(results, plots, sheets).encode("utf-8", "backslashreplace"))
        self._write(RESULTS, results.model_dump_json(indent=1).encode() + b"\n")
        return results

    def _warn(self, chosen: ChosenSet) -> None:
        """What listing the set has shown, its first ten, first of what is measured."""
        left_out = chosen.left_out
        found = sorted([*chosen.found.problems, *self.extra[chosen.name]], key=lambda problem: problem.name in left_out)
        for problem in found[:10]:
            what = "warning, of an image that is not measured" if problem.name in left_out else "warning"
            self.progress.say(f"{what}: {problem}", style="yellow")
        if len(found) > 10:
            self.progress.say(f"warning: and {len(found) - 10} more, see {RESULTS}", style="yellow")

    def _look_for_inverted(self, chosen: ChosenSet, log: MeasurementLog, run: Run) -> None:
        """Whether most of the ground truths that were measured look inverted."""
        method = self.methods[chosen.name][0]
        found = rows_of(log, chosen, run.images[chosen.name], method, self.attacks[0], self.options.seed)
        upside_down = inverted_set(chosen.name, (one.inverted for one in found))
        if upside_down is not None and upside_down not in chosen.found.problems:
            self._note(chosen, [upside_down])
            self.progress.say(f"warning: {upside_down}", style="yellow")

    def _load(self) -> Predictor:
        assert self.network is not None
        return self.network.predictor

    def _results(self, log: MeasurementLog, run: Run) -> Results:
        """All figures; `per_image.csv` is written on the way, so that every row is read once."""
        outcomes: list[Outcome] = []
        f1_of: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
        with self.folder.create(_PER_IMAGE) as stream:
            table = PerImageTable(stream)
            for chosen in self.sets:
                done: dict[str, Outcome] = {}
                for attack in self.attacks:
                    for method in self.methods[chosen.name]:
                        found = self._outcome(log, run, chosen, method, attack, done, table)
                        outcomes.append(found[0])
                        f1_of.setdefault((attack.name, method.name), []).append(found[1])
            table.finish()
        averages: list[Average] = []
        if len(self.sets) > 1:
            for (attack_name, method_name), parts in f1_of.items():
                of_method = [one for one in outcomes if (one.attack, one.method) == (attack_name, method_name)]
                averages.append(average(attack_name, method_name, parts, of_method, self.options.seed, RESAMPLES))
        return Results(
            version=__version__,
            status=status_of(self.stop.is_set()),
            started=self.started,
            finished=_now(),
            command_line=list(self.options.command_line),
            configuration=self._configuration(),
            seed=self.options.seed,
            machine=_machine(),
            sets=[set_record(chosen, run.images[chosen.name], self.extra[chosen.name]) for chosen in self.sets],
            absent=self.absent,
            methods={
                name: [MethodRecord(name=m.name, kind=m.kind, digest=m.digest, details=m.details) for m in methods]
                for name, methods in self.methods.items()
            },
            attacks=[attack.name for attack in self.attacks],
            outcomes=outcomes,
            averages=averages,
            published=[
                PublishedRecord(
                    method=one.method,
                    set=one.set,
                    f1=one.f1,
                    iou=one.iou,
                    source=f"{SOURCE}, {one.table}",
                    note=one.note,
                )
                for one in published_for({chosen.name for chosen in self.sets})
            ],
            timing=TimingRecord(
                wall_seconds=round(run.timing.wall, 3),
                network_seconds=round(run.timing.network, 3),
                share_outside_network=run.timing.outside,
                loading_seconds=round(run.timing.loading, 3),
                predictions=run.timing.pictures,
                seconds_by_step={step: round(seconds, 3) for step, seconds in run.timing.steps.items()},
            ),
        )

    def _outcome(
        self,
        log: MeasurementLog,
        run: Run,
        chosen: ChosenSet,
        method: Method,
        attack: Attack,
        done: dict[str, Outcome],
        table: PerImageTable,
    ) -> tuple[Outcome, NDArray[np.float64]]:
        """One outcome and the F1 and IoU of its images, n×2; what an attack cannot change is summarized once."""
        measurements = rows_of(log, chosen, run.images[chosen.name], method, attack, self.options.seed)
        rows = [one.row for one in measurements]
        settings = method.settings(attack, self.options.seed)
        table.add(chosen.name, attack.name, method.name, settings, rows)
        if settings in done:
            found = done[settings].model_copy(update={"attack": attack.name, "simulated": attack.simulated})
        else:
            found = outcome(measurements, chosen, method, attack, self.options.seed, RESAMPLES)
            done[settings] = found
        pairs = [(row.f1, row.iou) for row in rows if row.f1 is not None]
        return found, np.array(pairs, np.float64).reshape(-1, 2)

    def _configuration(self) -> dict[str, Scalar]:
        options = self.options
        return {
            "limit": options.limit,
            "strict": options.strict,
            "max_megapixels": options.max_megapixels,
            "pixel_threshold": MEASURE["threshold"],
            "resize": MEASURE["resize"],
            "score_of_maps": f"mean of the strongest {MEASURE['score_cells']} cells of 8×8 pixels",
            "bootstrap_resamples": RESAMPLES,
            "predictions": None if options.predictions is None else printable(str(options.predictions)),
            "root": None if options.root is None else printable(str(options.root)),
        }

    def _sheets(self, log: MeasurementLog, run: Run) -> list[page.Sheet]:
        """A contact sheet for each set and subject; the few maps it needs are made again."""
        sheets, files = [], {}
        attack = self.attacks[0]
        with Pictures(1, self.options.max_megapixels) as pictures:
            for number, chosen in enumerate(self.sets, 1):
                for method in self.methods[chosen.name]:
                    if not method.subject:
                        continue
                    found = rows_of(log, chosen, run.images[chosen.name], method, attack, self.options.seed)
                    picks = contact.pick(one.row for one in found)
                    if not picks:
                        continue
                    jpeg = self._sheet(pictures, chosen, method, attack, picks)
                    files[f"{number:02d}-{slug(chosen.name)}-{slug(method.name)}.jpg"] = jpeg
                    sheets.append(page.Sheet(chosen.name, method.name, jpeg))
        self._replace_pictures(_CONTACT, ".jpg", files)
        return sheets

    def _sheet(
        self, pictures: Pictures, chosen: ChosenSet, method: Method, attack: Attack, picks: list[contact.Pick]
    ) -> bytes:
        entries = {entry.key: entry for entry in chosen.entries}

        def tiles() -> Iterator[tuple[contact.Pick, Mask | None, Pixels, Map]]:
            for one in picks:
                entry = entries[one.key]
                try:
                    attacked = attack.apply(pictures.pixels(entry), self.options.seed)
                    heatmap = self._map(pictures, chosen, method, entry, attacked)
                    if heatmap is not None:
                        yield one, pictures.truth(entry), attacked, heatmap
                except (UnreadablePicture, AttackError):
                    continue  # its figures are from before; the file is not what it was

        return contact.sheet(tiles(), len(picks))

    def _map(self, pictures: Pictures, chosen: ChosenSet, method: Method, entry: Entry, pixels: Pixels) -> Map | None:
        if method.function is not None:
            return method.function(pixels)
        if method.kind == "predictions":
            path, _ = self.folders[chosen.name].find(entry)
            return None if path is None else pictures.map(path)
        (prediction,) = self._load().predict([(entry.key, pixels)])
        return getattr(prediction, "heatmap", None)

    def _write(self, name: str, content: bytes) -> None:
        with self.folder.create(name) as stream:
            stream.write(content)

    def _replace_pictures(self, folder: str, suffix: str, files: dict[str, bytes]) -> None:
        self._clear_pictures(folder, suffix, set(files))
        for name, content in files.items():
            self._write(f"{folder}/{name}", content)

    def _clear_pictures(self, folder: str, suffix: str, keep: set[str]) -> None:
        where = self.out / folder
        with output_errors(where):
            stale = sorted(path.name for path in where.glob(f"*{suffix}")) if where.is_dir() else []
        for name in stale:
            if name not in keep:
                self.folder.remove(f"{folder}/{name}", below=(folder,))

    def _clear(self) -> None:
        """What earlier measurements wrote here, and only that."""
        self._clear_pictures(_PLOTS, ".svg", set())
        self._clear_pictures(_CONTACT, ".jpg", set())
        for name in (RESULTS, _PAGE, _PER_IMAGE, LOG):
            self.folder.remove(name)


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
        if found.is_list:  # whatever else lies beside a list is no part of the data
            named = {path.parent for entry in found.entries for path in (entry.image, *entry.masks)}
            places |= {Path(os.path.realpath(place)): True for place in named}
        for place, held in places.items():
            if place.is_relative_to(folder) or (held and folder.is_relative_to(place)):
                raise UsageError(
                    f"The results folder {out} and the data {place} lie in one another.",
                    "Data are never written to: choose a folder of its own with --out.",
                )


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _machine() -> dict[str, Scalar]:
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "pillow": version("pillow"),
        "cores": os.cpu_count(),
    }
