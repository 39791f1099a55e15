"""Whole measurements, and the parts of one: what is read, what each method makes of an image, where the time went."""

from __future__ import annotations

import csv
import errno
import json
import os
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import numpy as np
import pytest
from PIL import Image

from clue_cli import engine as flow
from clue_cli.engine import Budget
from clue_cli.errors import ClueError, DataProblemError, NothingToScanError, OutputError, UsageError, WeightsError
from clue_cli.eval import run
from clue_cli.eval.compare import compare_folders, describe
from clue_cli.eval.options import EvalOptions
from clue_cli.eval.pictures import Pictures
from clue_cli.eval.plan import Plan
from clue_cli.eval.results import CONTACT, LOCK, PER_IMAGE, EvalFolder, Results, read_results
from clue_cli.eval.run import Timing
from clue_cli.eval.table import notes
from clue_cli.networks import Compile, local, processes
from clue_cli.progress import ShownReporter
from model.calibration import Calibration
from model.datasets.sample import Kind, Sample
from model.evaluation import find_at, limited
from model.images.masks import Mask
from model.whole_file import earlier
from tests.clue_cli.eval.conftest import Damaged, measured
from tests.clue_cli.eval.made import SIZE, truth, write_mask, write_set
from tests.faults.dying_network import KILLS
from tests.tiny_model import write_tiny_model

FILES = {"contact", "index.html", "measurements.jsonl", "per_image.csv", "plots", "results.json"}


class TestProblems:
    @pytest.mark.parametrize(
        ("kind", "name"),
        [
            ("mask of another size", "onerror"),
            ("mask empty", "t1.jpg"),
            ("mask missing", "t2.jpg"),
            ("map not finite", "t3.jpg"),
            ("prediction missing", "t4.jpg"),
            ("prediction of another size", "t5.jpg"),
            ("prediction unreadable", "t6.jpg"),
            ("prediction without an image", "surplus.npy"),
        ],
    )
    def test_each_is_named(self, damaged: Damaged, kind: str, name: str) -> None:
        (record,) = damaged.results.sets
        found = [*record.problems, *(p for one in damaged.results.outcomes for p in one.problems)]
        assert any(problem.kind == kind and name in problem.name for problem in found)

    def test_an_image_that_cannot_be_decoded_is_named_and_nothing_else_suffers(self, damaged: Damaged) -> None:
        ela = damaged.results.outcome(damaged.results.sets[0].name, "none", "error level analysis")
        assert ela is not None
        assert [(p.kind, p.name) for p in ela.problems if "t7" in p.name] == [("image unreadable", "Tp/t7.jpg")]
        assert ela.unmeasured == 1
        assert ela.pixel["f1"].n == 5  # 8 forged: one empty mask, one without, one unreadable picture

    def test_the_rest_is_scored(self, damaged: Damaged) -> None:
        one = damaged.results.outcome(damaged.results.sets[0].name, "none", "predictions")
        assert one is not None
        assert (one.forged, one.authentic, one.unmeasured) == (8, 2, 3)
        assert one.pixel["f1"].n == 3  # t0 and t7 perfectly, t5 everywhere
        assert one.pixel["pixel_auc"].n == 3
        assert one.image["false_positive_area"].value == pytest.approx(5 / 96)

    def test_strict_makes_each_an_error(self, damaged: Damaged, tmp_path: Path) -> None:
        with pytest.raises(DataProblemError):
            measured(tmp_path / "out", bench=(str(damaged.folder),), predictions=damaged.maps, strict=True)
        good, maps = write_set(tmp_path / "set", 2, 0), tmp_path / "maps"
        maps.mkdir()
        np.save(maps / "t0.npy", truth(0))
        with pytest.raises(DataProblemError, match="prediction missing"):
            measured(tmp_path / "out", bench=(str(good),), predictions=maps, strict=True)
        np.save(maps / "t1.npy", truth(1))
        np.save(maps / "more.npy", truth(1))
        with pytest.raises(DataProblemError, match="without an image"):
            measured(tmp_path / "out", bench=(str(good),), predictions=maps, strict=True)
        (maps / "more.npy").unlink()
        results = measured(tmp_path / "out", bench=(str(good),), predictions=maps, strict=True)
        assert [one.pixel["f1"].value for one in results.outcomes if one.method == "predictions"] == [1.0]

    def test_an_inverted_set_is_noticed_among_the_images_that_are_measured(self, tmp_path: Path) -> None:
        folder = write_set(tmp_path / "set", 5, 0)
        for number in range(4):
            write_mask(folder / "Gt" / f"t{number}.png", ~truth(number))
        (folder / "Gt" / "t4.png").write_bytes(b"damaged")
        for again in range(2):  # measured, and taken over
            results = measured(tmp_path / "out", bench=(str(folder),), methods=("ela",))
            found = [(p.kind, p.detail) for p in results.sets[0].problems if "inverted" in p.kind]
            assert found == [("set looks inverted", "4 of 4 masks")], again

    def test_under_a_limit_what_listing_shows_of_the_other_images_stands_apart(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder, maps = write_set(tmp_path / "set", 6, 0), tmp_path / "maps"
        part = {entry.key for entry in limited(find_at(folder, deep=False).samples, 2, 0)}
        inside, *_ = sorted(part)
        outside, empty, *others = sorted({f"Tp/t{number}.jpg" for number in range(6)} - part)
        for key in (inside, outside):
            (folder / "Gt" / f"{Path(key).stem}.png").unlink()
        write_mask(folder / "Gt" / f"{Path(empty).stem}.png", np.zeros(SIZE, bool))  # shown by opening alone
        write_mask(folder / "Gt" / "nobody.png", truth(0))  # of no image: of the set
        maps.mkdir()
        for key in (*part, outside, empty):
            np.save(maps / f"{Path(key).stem}.npy", np.zeros(SIZE, np.float32))
        with ShownReporter() as progress:
            options = EvalOptions(bench=(str(folder),), predictions=maps, limit=2)
            results = run.evaluate(tmp_path / "out", options, progress)
        (record,) = results.sets
        assert [(p.kind, p.name) for p in record.problems] == [
            ("mask missing", inside),
            ("mask without an image", "Gt/nobody.png"),
        ]
        missing = [("prediction missing", key) for key in others]
        assert [(p.kind, p.name) for p in record.elsewhere] == [("mask missing", outside), *missing]
        said = notes(results)
        assert f"{record.name}, mask missing: {inside}" in said
        assert f"{record.name}, images that were not measured, mask missing: {outside}" in said
        assert f"{record.name}: the others were not opened: of their files only names were looked at." in said
        assert not any(empty in line for line in said)
        assert f"warning, of an image that is not measured: {outside}: mask missing" in capsys.readouterr().err
        _, apart = (tmp_path / "out" / "index.html").read_text().split("Images that were not measured", 1)
        assert f"<bdi>{outside}: mask missing (expected a picture named {Path(outside).stem})</bdi>" in apart
        whole = measured(tmp_path / "out", bench=(str(folder),), predictions=maps)
        assert whole.sets[0].elsewhere == []
        assert "were not opened" not in "".join(notes(whole))
        with pytest.raises(DataProblemError):
            measured(tmp_path / "out", bench=(str(folder),), limit=2, strict=True)


class TestFolder:
    def test_the_files(self, damaged: Damaged) -> None:
        assert {path.name for path in damaged.out.iterdir()} - {LOCK} == FILES
        data = json.loads((damaged.out / "results.json").read_text())
        jsonschema.validate(data, Results.model_json_schema())
        assert read_results(damaged.out) == damaged.results
        assert data["sets"][0]["digest"] and data["version"] and data["seed"] == 0

    def test_every_image_has_a_line_and_no_cell_is_a_formula(self, damaged: Damaged) -> None:
        with (damaged.out / "per_image.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 10 * 6  # predictions, three trivial baselines, ELA, metadata
        of_method = {row["method"]: row["settings"] for row in rows}
        assert len(set(of_method.values())) == 6
        assert all(row["settings"] == of_method[row["method"]] and len(row["settings"]) == 64 for row in rows)
        assert not any(str(value).startswith(("=", "+", "-", "@")) for row in rows for value in row.values())
        assert "\u202e" not in (damaged.out / "per_image.csv").read_text("utf-8")

    def test_the_page_is_text_and_nothing_runs(self, damaged: Damaged) -> None:
        page = (damaged.out / "index.html").read_text("utf-8")
        assert "default-src &#39;none&#39;" in page and "<script" not in page and "<img src=x" not in page
        assert "&lt;img src=x onerror=alert(1)&gt;" in page
        assert "style=" not in page and "\u202e" not in page
        assert "data:image/jpeg;base64," in page
        assert all(path.read_text().startswith("<svg") for path in (damaged.out / "plots").iterdir())

    @pytest.mark.parametrize(
        ("options", "kind", "message"),
        [
            ({"attacks": ("jpeg:101",)}, UsageError, "quality from 1 to 100"),
            ({"attacks": ("jpeg:70",), "predictions": Path("maps")}, UsageError, "pictures as they are"),
            ({"device": "cuda:99", "methods": ("mini",)}, UsageError, "no device"),
            ({"model": "nowhere", "methods": ("mini",)}, WeightsError, "No model at"),
            ({"compile": Compile.BLOCKS, "methods": ("mini",)}, UsageError, r"no C\+\+ compiler here \(/nowhere"),
            ({"predictions": Path("nowhere")}, NothingToScanError, "no folder"),
        ],
    )
    def test_refusals(
        self,
        damaged: Damaged,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        options: dict[str, object],
        kind: type[ClueError],
        message: str,
    ) -> None:
        monkeypatch.setenv("CXX", "/nowhere/g++")
        with pytest.raises(kind, match=message):
            measured(tmp_path / "out", **({"bench": (str(damaged.folder),), "methods": ("ela",)} | options))
        assert not (tmp_path / "out").exists()

    def test_a_folder_of_somebody_else(self, damaged: Damaged, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").touch()
        with pytest.raises(OutputError, match=r"something else.*mine\.txt"):
            measured(tmp_path, bench=(str(damaged.folder),), methods=("ela",))
        for out in (damaged.folder, damaged.folder / "out", damaged.folder.parent):
            with pytest.raises(UsageError, match="lie in one another"):
                measured(out, bench=(str(damaged.folder),), methods=("ela",))

    @pytest.mark.parametrize(
        ("out", "refused"),
        [
            ("results", False),
            (".", True),
            ("data", True),
            ("data/Tp/results", True),
            ("..", True),
            ("data/other", False),
        ],
    )
    def test_the_data_of_a_list_are_where_its_files_are(self, tmp_path: Path, out: str, refused: bool) -> None:
        here = tmp_path / "here"
        write_set(here / "data", 2, 0)
        (here / "list.csv").write_text(f"data/Tp/t0.jpg,data/Gt/t0.png\n{here}/data/Tp/t1.jpg,{here}/data/Gt/t1.png\n")
        options = EvalOptions(bench=(str(here / "list.csv"),), methods=("ela",))
        if refused:
            with pytest.raises(UsageError, match="lie in one another"):
                Plan(here / out, options)
        else:
            assert [len(chosen.samples) for chosen in Plan(here / out, options).sets] == [2]

    def test_one_measurement_at_a_time(self, tmp_path: Path) -> None:
        one, other = EvalFolder(tmp_path), EvalFolder(tmp_path)
        with one.in_use(), pytest.raises(OutputError, match="Another measurement"), other.in_use():
            pass


class TestNetwork:
    def test_compiled_it_is_another_measurement(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[str] = []
        monkeypatch.setattr("model.device.require_compiler", lambda: None)
        monkeypatch.setattr("model.device.compile_network", lambda model, how: asked.append(how))
        photos, model = write_set(tmp_path / "set", 1, 1), write_tiny_model(tmp_path / "tiny")
        options = {"bench": (str(photos),), "model": str(model), "device": "cpu"}
        eager, compiled = (measured(tmp_path / str(how), **options, compile=how) for how in (None, Compile.GRAPHS))
        assert asked == ["graphs"]
        ((of_eager, *_),), ((of_compiled, *_),) = eager.methods.values(), compiled.methods.values()
        assert "compile" not in of_eager.details
        assert of_compiled.details == of_eager.details | {"compile": "graphs"}

    def test_what_should_be_known_of_the_model_is_said(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The folder of a training that was killed while it replaced its best model."""
        photos, model = write_set(tmp_path / "set", 1, 1), write_tiny_model(tmp_path / "tiny")
        moved = model.rename(earlier(model))
        with ShownReporter() as progress:
            run.evaluate(tmp_path / "out", EvalOptions(bench=(str(photos),), model=str(model), device="cpu"), progress)
        told = "".join(capsys.readouterr().err.split())
        assert f"warning:{model}ismissing" in told
        assert str(moved) in told

    def test_it_is_measured_resumed_and_compared(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        calibration = Calibration(name="made", fitted_on="made", fitted_megapixels=(0.001, 1.0))
        tiny = write_tiny_model(tmp_path / "tiny", calibration)
        first, second = write_set(tmp_path / "set", 3, 2), write_set(tmp_path / "ACDSee", 2, 0)
        options = {
            "bench": (str(first), "acdsee"),
            "root": tmp_path,
            "model": str(tiny),
            "device": "cpu",
            "methods": ("mini",),
            "attacks": ("none,jpeg:70",),
        }
        assert second.is_dir()
        stopped = threading.Event()
        append = run.MeasurementLog.append

        def append_then_stop(log: object, *arguments: object) -> None:
            append(log, *arguments)  # type: ignore[arg-type]
            stopped.set()

        with monkeypatch.context() as patch, ShownReporter(quiet=True) as progress:
            patch.setattr(run.MeasurementLog, "append", append_then_stop)
            cut = run.evaluate(tmp_path / "out", EvalOptions(**options), progress, stopped)  # type: ignore[arg-type]
        assert cut.status == "interrupted"
        for record in cut.sets:
            every = [(one.forged, one.authentic) for one in cut.outcomes if one.set == record.name]
            assert set(every) == {(record.forged, record.authentic)}, "each method over the same images"
        counts = [(record.forged + record.authentic, sum(record.held)) for record in cut.sets]
        assert any(measured < held for measured, held in counts)
        said = "\n".join(notes(cut))
        for record, (count, held) in zip(cut.sets, counts, strict=True):
            early = f"{record.name}: {count} of {held} images were measured before the interruption."
            assert (early in said) == (count < held)
        assert "were not opened" not in said
        assert "They were not opened" not in (tmp_path / "out" / "index.html").read_text("utf-8")
        assert read_results(tmp_path / "out") == cut

        results = measured(tmp_path / "out", **options)
        assert results.status == "finished"
        assert results.attacks == ["none", "jpeg:70"]
        assert results.subjects() == ["tiny"]
        tiny_one = results.outcome(str(first), "none", "tiny")
        assert tiny_one is not None
        assert (tiny_one.pixel["f1"].n, tiny_one.image["image_auc"].n, tiny_one.unmeasured) == (3, 5, 0)
        assert tiny_one.curves.reliability and tiny_one.curves.pixel and tiny_one.curves.image_roc
        assert results.timing.share_outside_network is not None
        assert 0 <= results.timing.share_outside_network <= 1
        average = next(one for one in results.averages if (one.attack, one.method) == ("none", "tiny"))
        assert (average.sets, average.weighted["f1"].n) == (2, 5)
        assert {one.set for one in results.published} == {"acdsee"}
        assert any("robustness-jpeg" in path.name for path in (tmp_path / "out" / "plots").iterdir())

        with monkeypatch.context() as patch:
            patch.setattr(run, "contact_sheets", lambda *arguments: {})
            patch.setattr(local, "load_predictor", lambda *_: pytest.fail("computed again"))
            again = measured(tmp_path / "out", **options)
        assert again.outcomes == results.outcomes
        assert again.timing.predictions == 0

        text = describe(compare_folders(tmp_path / "out", tmp_path / "out"))
        assert "A = tiny, B = tiny" in text and "too few images: p cannot be below" in text
        maps = tmp_path / "maps"
        maps.mkdir()
        for number in range(3):
            np.save(maps / f"t{number}.npy", truth(number))
        measured(tmp_path / "other", bench=(str(first),), predictions=maps)
        (found,) = compare_folders(tmp_path / "other", tmp_path / "out")
        f1 = next(one for one in found.comparisons if one.metric == "f1")
        assert f1.a == 1.0 and f1.difference.n == 3 and f1.least_p == 0.25
        assert found.undefined == ["image_auc", "false_positive_area"]  # no predictions for the authentic images

        measured(tmp_path / "fewer", bench=(str(first),), methods=("ela",), limit=3)
        with pytest.raises(UsageError, match="not measured on the same data"):
            compare_folders(tmp_path / "fewer", tmp_path / "out")
        overwritten = measured(tmp_path / "fewer", bench=(str(first),), methods=("ela",), overwrite=True)
        assert overwritten.sets[0].digest == results.sets[0].digest
        names = compare_folders(tmp_path / "fewer", tmp_path / "out", method="error level analysis")
        assert names == [] or names[0].a == "error level analysis"

    def test_several_devices_give_the_same_results(self, tmp_path: Path) -> None:
        photos, model = write_set(tmp_path / "set", 3, 2), write_tiny_model(tmp_path / "tiny")
        options = {"bench": (str(photos),), "model": str(model), "attacks": ("none,jpeg:70",)}
        one = measured(tmp_path / "one", **options, device="cpu")
        two = measured(tmp_path / "two", **options, devices=("cpu", "cpu"), batch=2)
        assert two.timing.predictions == one.timing.predictions == 10
        assert two.timing.loading_seconds > 0
        times: set[str] = {"started", "finished", "timing"}
        assert one.model_dump(exclude=times) == two.model_dump(exclude=times)
        for name in (PER_IMAGE, CONTACT):
            same(tmp_path / "one" / name, tmp_path / "two" / name)

    def test_an_image_that_kills_processes_is_named_and_tried_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        photos, model = write_set(tmp_path / "set", 2, 2), write_tiny_model(tmp_path / "tiny")
        for red, name in enumerate(("Tp/t0", "Tp/t1", "Au/a0", "Au/a1"), 10):
            colour = (KILLS if name == "Tp/t1" else red, 0, 0)
            Image.new("RGB", SIZE[::-1], colour).save(photos / f"{name}.jpg", "PNG")
        options = {"bench": (str(photos),), "model": str(model), "devices": ("cpu", "cpu")}
        with monkeypatch.context() as patch:
            patch.setattr(processes, "_WORKER", "tests.faults.dying_network")
            results = measured(tmp_path / "out", **options)
        one = results.outcome(str(photos), "none", "tiny")
        assert one is not None
        assert [(p.kind, p.name) for p in one.problems] == [(Kind.IMAGE_UNREADABLE, "Tp/t1.jpg")]
        assert "twice, with this image in it" in one.problems[0].detail
        assert (one.unmeasured, results.timing.predictions) == (1, 3)
        again = measured(tmp_path / "out", **options | {"devices": ()}, device="cpu")
        one = again.outcome(str(photos), "none", "tiny")
        assert one is not None
        assert (one.unmeasured, again.timing.predictions) == (0, 1)

    def test_a_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        photos = write_set(tmp_path / "set", 2, 2)
        monkeypatch.setattr(run.MeasurementLog, "append", full)
        with pytest.raises(OutputError, match="No space left"):
            measured(tmp_path / "out", bench=(str(photos),), methods=("ela",))


def same(one: Path, other: Path) -> None:
    files = [path.relative_to(one) for path in one.rglob("*") if path.is_file()] if one.is_dir() else [Path()]
    assert files
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in files)


ATTACKS = ("none", "resize:2", "jpeg:70", "resize:0.5")


def test_one_picture_at_a_time_and_each_mask_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget of less than one picture; an attack that enlarges it is counted, and all of it is given back."""
    budgets: list[Noted] = []
    read: Counter[str] = Counter()

    class Noted(Budget):
        def __init__(self, limit: int) -> None:
            super().__init__(limit)
            self.acquired: list[int] = []
            self.held = 0
            budgets.append(self)

        def acquire(self, size: int) -> None:
            super().acquire(size)
            self.acquired.append(size)
            self.held += size

        def release(self, size: int) -> None:
            self.held -= size
            super().release(size)

    class Counting(Pictures):
        def truth(self, entry: Sample) -> Mask:
            read[entry.key] += 1
            return super().truth(entry)

    monkeypatch.setattr(flow, "PIXEL_BUDGET", 1)
    monkeypatch.setattr(flow, "Budget", Noted)
    monkeypatch.setattr(run, "Pictures", Counting)
    folder = write_set(tmp_path / "set", 2, 1)
    results = measured(tmp_path / "out", bench=(str(folder),), methods=("classical",), attacks=ATTACKS)
    assert [one.unmeasured for one in results.outcomes] == [0] * len(results.outcomes)
    assert read == {"Tp/t0.jpg": 1, "Tp/t1.jpg": 1}, "three methods and four attacks, one ground truth"
    (budget,) = budgets
    pixels = SIZE[0] * SIZE[1] * run.BYTES_PER_PIXEL
    assert Counter(budget.acquired) == {pixels: 3 * len(ATTACKS), 4 * pixels: 3}
    assert budget.held == 0


def test_steps_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 3.0, 10.0, 14.0])
    monkeypatch.setattr("clue_cli.eval.run.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    spent = Timing()
    with spent.step("read"):
        pass
    with pytest.raises(OSError, match="cut"), spent.step("read"):
        raise OSError("cut")
    assert spent.steps == {"read": 6.0, "decode": 0.0, "attack": 0.0, "measure": 0.0}


@pytest.mark.parametrize(
    ("spent", "share"),
    [
        (Timing(), None),
        (Timing(wall=4.0), None),
        (Timing(wall=4.0, network=3.0), 0.25),
        (Timing(wall=4.0, network=6.0, devices=2), 0.25),
        (Timing(wall=4.0, network=5.0), 0.0),
        (Timing(wall=4.0, network=6.0, devices=None), None),  # a cluster
    ],
)
def test_share_outside_the_network(spent: Timing, share: float | None) -> None:
    assert spent.outside == share


def test_predictions_of_which_none_matches_are_an_error_before_anything_is_measured(tmp_path: Path) -> None:
    folder, maps = write_set(tmp_path / "set", 2, 0), tmp_path / "maps"
    maps.mkdir()
    np.save(maps / "other.npy", truth(0))
    with pytest.raises(NothingToScanError, match=r"is named like .* Tp/t0\.jpg; other\.npy is one"):
        measured(tmp_path / "out", bench=(str(folder),), predictions=maps)
    assert not (tmp_path / "out").exists()
