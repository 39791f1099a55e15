"""`clue eval --task synthetic`, with a method whose scores are known: each picture holds its own in its corner."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import jsonschema
import numpy as np
import pytest
from PIL import Image
from sklearn import metrics

import model.synthetic
from clue_cli.app import run as clue
from clue_cli.errors import DataProblemError, ExitCode, NothingToScanError, OutputError, UsageError
from clue_cli.eval import run as localization
from clue_cli.eval.compare import compare_folders, describe
from clue_cli.eval.options import EvalOptions
from clue_cli.eval.synthetic import run
from clue_cli.eval.synthetic.results import SyntheticResults, read_any
from clue_cli.eval.synthetic.show import notes, render
from model.calibration import Calibration
from model.reporter import SILENT
from model.synthetic import Detection, Method
from tests.clue_cli.eval.made import write_set

CALLS: list[int] = []
BREAKS = 7
"""The level at which the method fails."""


class Corner:
    """The score of a picture is its first pixel."""

    def detect(self, pixels: np.ndarray) -> Detection:  # type: ignore[type-arg]
        CALLS.append(1)
        if len(pixels) < 20:
            raise ValueError("smaller than 20 pixels")
        score = float(pixels[:8, :8].mean()) / 255
        if round(255 * score) == BREAKS:
            raise KeyError("no such layer")
        return Detection(score)


@pytest.fixture(autouse=True)
def corner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The methods `traces`, calibrated, and any other word, which has a folder and learned from ADM."""

    def described(word: str) -> Method:
        calibration = Calibration(
            "corner", score_threshold=0.6, no_evidence_below=0.4, fitted_on="toys", fitted_megapixels=(0.001, 1.0)
        )
        if word == "traces":
            return Method(word, "traces", "a" * 64, calibration, limits=("It is a toy.",))
        return Method(word, "traces", "b" * 64, Calibration(), Path(word), training={"generators": ["ADM"]})

    module = ModuleType("model.synthetic.corner")
    module.describe, module.load = described, lambda *_: Corner()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "model.synthetic.corner", module)
    monkeypatch.setattr(model.synthetic, "KINDS", {"traces": "corner"})
    monkeypatch.setattr(model.synthetic, "read_method_file", lambda folder: {"kind": "traces"})
    monkeypatch.setattr(run, "RESAMPLES", 30)
    CALLS.clear()
    yield


def picture(path: Path, level: int, size: tuple[int, int] = (40, 48), quality: int = 90, noise: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([level, noise]).integers(0, 255, (*size, 3), np.uint8)
    pixels[:8, :8] = level
    Image.fromarray(pixels).save(path, quality=quality)


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """Two generators with twelve pictures of each class, all JPEG 90; `sd` is harder. Two are laundered."""
    folder = tmp_path / "bench"
    for noise, (generator, shift) in enumerate((("adm", 110), ("sd", 30))):
        for number in range(12):
            picture(folder / generator / "0_real" / f"{number}.jpg", 20 + 11 * number, noise=noise)
            picture(folder / generator / "1_fake" / f"{number}.jpg", 20 + 10 * number + shift, noise=2 + noise)
    for number in range(2):
        picture(folder / "sd" / "laundered" / f"{number}.jpg", 240, noise=number)
    return folder


def measured(out: Path, bench: Path, **options: object) -> SyntheticResults:
    return run.evaluate_synthetic(out, EvalOptions(task="synthetic", bench=(str(bench),), **options), SILENT)  # type: ignore[arg-type]


def rows(out: Path, method: str, attack: str = "none") -> list[dict[str, str]]:
    with (out / "per_image.csv").open(newline="") as stream:
        return [row for row in csv.DictReader(stream) if (row["method"], row["attack"]) == (method, attack)]


def test_figures_are_those_of_the_scores_and_the_result_is_as_its_schema_says(bench: Path, tmp_path: Path) -> None:
    results = measured(tmp_path / "out", bench, attacks=("none", "jpeg:50"))
    one = results.outcome(str(bench), "none", "traces")
    assert one is not None
    listed = [row for row in rows(tmp_path / "out", "traces") if row["class"] != "laundered"]
    truth, scores = [row["class"] == "generated" for row in listed], [float(row["score"]) for row in listed]
    assert len(listed) == 48 and one.pictures.laundered == 2
    assert one.overall["image_auc"].value == pytest.approx(metrics.roc_auc_score(truth, scores))
    assert one.overall["average_precision"].value == pytest.approx(metrics.average_precision_score(truth, scores))
    assert one.overall["accuracy"].value == pytest.approx(metrics.accuracy_score(truth, np.array(scores) > 0.6))
    assert one.overall["real_called_generated"].n == 24
    assert one.laundered["laundered_called_generated"].value == 1
    assert [(record.name, record.status) for record in one.generators] == [("adm", "unknown"), ("sd", "unknown")]
    after = results.outcome(str(bench), "jpeg:50", "traces")
    assert after is not None and after.overall["image_auc"].n == 48 and after.settings != one.settings
    content = json.loads((tmp_path / "out" / "results.json").read_bytes())
    jsonschema.validate(content, SyntheticResults.model_json_schema())
    assert read_any(tmp_path / "out") == results
    assert not results.warnings and not (tmp_path / "out" / "card.md").exists()
    text = render(results, width=160)
    assert "mean over unseen" not in text and ".934" in text and "It is a toy." in text
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<script" not in page and "laundered pictures count neither" in page


def test_what_was_measured_is_not_measured_again(bench: Path, tmp_path: Path) -> None:
    first = measured(tmp_path / "out", bench)
    assert len(CALLS) == 50
    picture(bench / "adm" / "1_fake" / "more.jpg", 250)
    again = measured(tmp_path / "out", bench)
    assert len(CALLS) == 51
    assert first.sets[0].digest != again.sets[0].digest
    assert measured(tmp_path / "out", bench).outcomes == again.outcomes and len(CALLS) == 51


def test_a_folder_of_a_method_has_its_card_written_and_generators_seen_and_unseen(bench: Path, tmp_path: Path) -> None:
    results = measured(tmp_path / "out", bench, methods=("my-method",))
    one = results.outcome(str(bench), "none", "my-method")
    assert one is not None
    assert [(record.name, record.status) for record in one.generators] == [("adm", "seen"), ("sd", "unseen")]
    unseen = one.generators[1].figures["image_auc"].value
    assert one.means["unseen"]["image_auc"].value == pytest.approx(unseen)
    assert one.overall["accuracy"].value is None, "nothing was calibrated"
    assert one.overall["real_called_inconclusive"].value == 1
    card = (tmp_path / "out" / "card.md").read_text()
    assert "sd (unseen): AUC" in card and f"{unseen:.3f}" in card
    measured(tmp_path / "out", bench)
    assert not (tmp_path / "out" / "card.md").exists(), "it is about another method"


def test_a_planted_shortcut_is_exposed_by_what_sees_no_pixel(tmp_path: Path) -> None:
    folder = tmp_path / "bench"
    for number in range(15):
        picture(folder / "real" / f"{number}.jpg", 100, quality=95)
        picture(folder / "fake" / f"{number}.jpg", 100, quality=50)
    results = measured(tmp_path / "out", folder)
    traces = results.outcome(str(folder), "none", "traces")
    assert traces is not None and traces.overall["image_auc"].value == 0, "the pixels say the opposite, if anything"
    for name, exposed in (("file format alone", False), ("metadata alone", True), ("file size alone", True)):
        one = results.outcome(str(folder), "none", name)
        assert one is not None
        assert (one.overall["image_auc"].value == 1) is exposed, name
        assert any(name in line for line in results.warnings) is exposed
    constant = results.outcome(str(folder), "none", "constant")
    assert constant is not None and constant.overall["balanced_accuracy"].value == 0.5
    for path in sorted((folder / "fake").iterdir()):
        Image.open(path).save(path.with_suffix(".png"))
        path.unlink()
    warnings = measured(tmp_path / "out", folder).warnings
    assert any("differ in file format: real 15 JPEG; generated 15 PNG" in line for line in warnings)


def test_a_list_with_other_classes_and_generators_is_measured_as_it_says_now(bench: Path, tmp_path: Path) -> None:
    def write(label: str, generator: str) -> None:
        lines = [f"bench/adm/0_real/{n}.jpg,real,\nbench/adm/1_fake/{n}.jpg,generated,{generator}\n" for n in range(4)]
        path.write_text("path,label,generator\n" + "".join(lines) + f"bench/sd/1_fake/1.jpg,{label},{generator}\n")

    path = tmp_path / "list.csv"
    write("generated", "flux")
    before = measured(tmp_path / "out", path, methods=("my-method",))
    write("laundered", "ADM")
    results = measured(tmp_path / "out", path, methods=("my-method",))
    one = results.outcome(str(path), "none", "my-method")
    assert one is not None and [(g.name, g.status, g.generated) for g in one.generators] == [("ADM", "seen", 4)]
    assert (one.pictures.generated, one.pictures.laundered) == (4, 1)
    assert results.sets[0].digest != before.sets[0].digest


def test_what_was_not_judged_is_counted_in_every_table(bench: Path, tmp_path: Path) -> None:
    for number in range(3):
        picture(bench / "sd" / "1_fake" / f"tiny{number}.png", 200, (16, 16 + number))
        picture(bench / "glide" / "1_fake" / f"{number}.png", 200, (16, 26 + number))
    picture(bench / "glide" / "0_real" / "a.png", 20)
    text = " ".join(render(measured(tmp_path / "out", bench), width=250).split())
    assert "mean over all (2 of 3)" in text and "12 / 15" in text and "n = 24" in text
    assert "not judged" in text and "n = 24 │ 6 │" in text


def test_one_picture_on_which_a_method_fails_does_not_end_the_measurement(bench: Path, tmp_path: Path) -> None:
    picture(bench / "sd" / "1_fake" / "fatal.png", BREAKS, (40, 48))
    results = measured(tmp_path / "out", bench)
    one = results.outcome(str(bench), "none", "traces")
    assert one is not None and one.unmeasured == 1 and one.overall["image_auc"].n == 48
    (problem,) = one.problems
    assert problem.name == "sd/1_fake/fatal.png" and "the method failed: KeyError" in problem.detail
    calls = len(CALLS)
    measured(tmp_path / "out", bench)
    assert len(CALLS) == calls + 1, "it is tried again"


def test_the_same_bytes_are_reported_within_a_class_and_across(bench: Path, tmp_path: Path) -> None:
    real = (bench / "adm" / "0_real" / "3.jpg").read_bytes()
    (bench / "sd" / "0_real" / "copy.jpg").write_bytes(real)
    (bench / "sd" / "1_fake" / "same.jpg").write_bytes(real)
    for _ in range(2):  # resumed alike
        results = measured(tmp_path / "out", bench)
        found = {(str(p.kind), p.name): p.detail for p in results.sets[0].problems}
        assert found == {
            ("same bytes twice", "sd/0_real/copy.jpg"): "real; adm/0_real/3.jpg is real",
            ("same bytes in two classes", "sd/1_fake/same.jpg"): "generated; adm/0_real/3.jpg is real",
        }
    assert any("same bytes in two classes: sd/1_fake/same.jpg" in line for line in notes(results))
    with pytest.raises(DataProblemError, match="same bytes"):
        measured(tmp_path / "strict", bench, strict=True)


def test_what_cannot_be_measured_is_named(bench: Path, tmp_path: Path) -> None:
    (bench / "adm" / "1_fake" / "cut.jpg").write_bytes((bench / "adm" / "1_fake" / "1.jpg").read_bytes()[:200])
    picture(bench / "sd" / "0_real" / "tiny.png", 50, (16, 16))
    results = measured(tmp_path / "out", bench)
    one = results.outcome(str(bench), "none", "traces")
    assert one is not None and one.unmeasured == 2 and one.overall["image_auc"].n == 48
    assert [(str(p.kind), p.name) for p in one.problems] == [
        ("image unreadable", "adm/1_fake/cut.jpg"),
        ("picture not judged", "sd/0_real/tiny.png"),
    ]
    assert any("picture not judged: sd/0_real/tiny.png" in line for line in notes(results))


def test_scores_of_others(bench: Path, tmp_path: Path) -> None:
    keys = sorted(path.relative_to(bench).as_posix() for path in bench.rglob("*.jpg"))
    lines = [f"{key},{0.9 if '1_fake' in key else 0.2}" for key in keys]
    lines[0], lines[1], lines[2], lines[3] = (
        f"{keys[0]},nan", f"{keys[1]},1.01", f"{keys[2]},high", f"{bench / keys[3]},0.25"
    )  # fmt: skip
    lines[4:6] = [lines[4], lines[4], "nowhere.jpg,0.5"]  # the sixth has none
    path = tmp_path / "theirs.csv"
    path.write_text("path,score\n" + "\n".join(lines) + "\n")
    results = measured(tmp_path / "out", bench, predictions=path)
    one = results.outcome(str(bench), "none", "predictions")
    assert one is not None
    assert [(str(p.kind), p.name) for p in one.problems] == sorted(
        [
            ("score not finite", keys[0]),
            ("score out of range", keys[1]),
            ("prediction unreadable", keys[2]),
            ("prediction given twice", keys[4]),
            ("prediction missing", keys[5]),
        ],
        key=lambda problem: problem[1],
    )
    assert [(str(p.kind), p.name) for p in results.sets[0].problems] == [("prediction without an image", "nowhere.jpg")]
    assert one.overall["image_auc"].value == 1 and one.overall["image_auc"].n == 43
    assert one.overall["accuracy"].value is None, "others' threshold is not known"
    assert one.overall["accuracy_at_half"].value == 1
    assert results.subjects() == ["predictions"] and not CALLS
    with pytest.raises(UsageError, match="The scores in --predictions"):
        measured(tmp_path / "other", bench, predictions=path, attacks=("jpeg:70",))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("path,score\nnowhere.jpg,0.5\n", NothingToScanError, "No row of"),
        ("path;score\nadm/0_real/1.jpg;0,5\n", NothingToScanError, "prediction unreadable"),
        ("name;value\na;1\n", UsageError, "no column `image`"),
        ("", UsageError, "no column `image`"),
        (None, NothingToScanError, "no .csv file"),
    ],
)
def test_a_file_that_holds_no_scores(
    bench: Path, tmp_path: Path, text: str | None, error: type[Exception], message: str
) -> None:
    path = tmp_path / "theirs.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(error, match=message):
        measured(tmp_path / "out", bench, predictions=path)


def test_two_results_are_compared_and_tasks_are_kept_apart(bench: Path, tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    keys = [path.relative_to(bench).as_posix() for path in bench.rglob("*.jpg")]
    path.write_text("path,score\n" + "".join(f"{key},{0.9 if '1_fake' in key else 0.2}\n" for key in keys))
    measured(tmp_path / "ours", bench)
    measured(tmp_path / "theirs", bench, predictions=path)
    words = describe(compare_folders(tmp_path / "ours", tmp_path / "theirs"))
    assert "AUC: A ." in words and "B 1.000" in words and "n = 48" in words and "differs at the 5 % level" in words
    localized = write_set(tmp_path / "set", 2, 2)
    options = EvalOptions(bench=(str(localized),), methods=("ela",))
    with pytest.raises(OutputError, match="--task synthetic"):
        localization.evaluate(tmp_path / "ours", options, SILENT)
    localization.evaluate(tmp_path / "edits", options, SILENT)
    with pytest.raises(UsageError, match="--task synthetic, the other is not"):
        compare_folders(tmp_path / "ours", tmp_path / "edits")


def test_the_command(bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", "--task", "synthetic"]
    assert clue([*words, "--bench", str(bench), "--out", str(tmp_path / "out"), "--quiet"]) == ExitCode.OK
    assert clue([*words, "--schema"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["title"] == "SyntheticResults"
    assert clue([*words, "--list"]) == ExitCode.OK
    assert "GENERATOR/0_real/" in capsys.readouterr().out
    for wrong in (["--bench", str(tmp_path / "none")], ["--bench", str(bench), "--bars", "mini"]):
        assert clue([*words, *wrong, "--out", str(tmp_path / "new")]) not in (ExitCode.OK, ExitCode.SOME_FAILED)
        assert not (tmp_path / "new").exists()
