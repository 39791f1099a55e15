"""The second question: its answer stands beside the first and changes nothing of it, whatever the method does."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from clue_cli.app import run as clue
from clue_cli.errors import ExitCode, UsageError, WeightsError
from clue_cli.evidence.item import VIDEO_FRAME, Photo
from clue_cli.networks import NetworkOptions, find_method, processes
from clue_cli.networks.synthetic import SecondQuestion
from clue_cli.networks.worker import load_second
from clue_cli.progress import ShownReporter
from clue_cli.records import RECORD, Counts, Finding, ImageRecord, Origin, RunRecord, Verdict
from clue_cli.report.run_facts import method_facts
from clue_cli.scan import FailOn, ScanOptions, pipeline
from clue_cli.scan.calibration_file import OwnCalibration, SyntheticCalibrationFile
from clue_cli.scan.run_log import exit_code
from clue_cli.scan.synthetic import judging, method_info, second_answer
from model.calibration import Calibration
from model.reporter import SILENT
from model.synthetic import Detection, MethodError, describe
from tests.clue_cli import calibrations, fake_method
from tests.clue_cli.fake_method import (
    CALIBRATION,
    ENDLESS_PART,
    FAILS,
    NO_MEMORY,
    NOT_A_NUMBER,
    TOO_SMALL,
    WRONG_MAP,
    write_method,
)
from tests.clue_cli.results.made import identity
from tests.faults.pictures import oriented_jpeg

PICTURES = {
    "generated.png": (250, Verdict.GENERATED, "score 0.980 is above the threshold 0.800"),
    "between.png": (120, Verdict.INCONCLUSIVE, "lies between"),
    "nothing.png": (20, Verdict.NO_EVIDENCE, "is not above 0.300"),
    "declared.png": (20, Verdict.INCONCLUSIVE, "the file itself declares or suggests that"),
    "small.png": (TOO_SMALL, Verdict.INCONCLUSIVE, "too small: 128 pixels on each side are needed"),
    "memory.png": (NO_MEMORY, Verdict.INCONCLUSIVE, "out of memory"),
    "nan.png": (NOT_A_NUMBER, Verdict.INCONCLUSIVE, "the score nan, which is not from 0 to 1"),
    "raises.png": (FAILS, Verdict.INCONCLUSIVE, "the method failed: KeyError"),
    "map.png": (WRONG_MAP, Verdict.INCONCLUSIVE, "a heatmap that is not from 0 to 1"),
    "part.png": (ENDLESS_PART, Verdict.INCONCLUSIVE, "the value inf for early"),
}
FAILED = ("small.png", "memory.png", "nan.png", "raises.png", "map.png", "part.png")


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        fake_method.register(patch)
        yield


def picture(path: Path, red: int, **info: Any) -> None:
    pixels = np.random.default_rng(red).integers(0, 256, (72, 96, 3), dtype=np.uint8)
    pixels[0, 0, 0] = red
    Image.fromarray(pixels).save(path, **info)


@dataclass
class Scanned:
    evidence: Path
    method: Path
    out: Path
    run: RunRecord
    said: str

    @property
    def records(self) -> dict[str, ImageRecord]:
        return by_name(self.out)


def by_name(out: Path) -> dict[str, ImageRecord]:
    lines = (out / "records.jsonl").read_text().splitlines()
    records = [record for record in map(RECORD.validate_json, lines) if isinstance(record, ImageRecord)]
    return {record.locator.removeprefix("evidence/"): record for record in records}


@pytest.fixture(scope="module")
def scanned(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Scanned:
    folder = tmp_path_factory.mktemp("synthetic")
    evidence = folder / "evidence"
    evidence.mkdir()
    for name, (red, _, _) in PICTURES.items():
        texts = PngImagePlugin.PngInfo()
        if name == "declared.png":
            texts.add_text("parameters", "a cat\nSteps: 20, Sampler: Euler a")
        picture(evidence / name, red, pnginfo=texts)
    (evidence / "turned.jpg").write_bytes(oriented_jpeg(6))
    method = write_method(folder / "method")
    stream = io.StringIO()
    options = ScanOptions(model=str(model), device="cpu", synthetic=str(method))
    with ShownReporter(stream=stream) as reporter:
        run = pipeline.scan([evidence], folder / "out", options, reporter)
    return Scanned(evidence, method, folder / "out", run, stream.getvalue())


@pytest.fixture(scope="module")
def plain(model: Path, scanned: Scanned) -> Scanned:
    stream, out = io.StringIO(), scanned.out.with_name("plain")
    with ShownReporter(stream=stream) as reporter:
        run = pipeline.scan([scanned.evidence], out, ScanOptions(model=str(model), device="cpu"), reporter)
    return replace(scanned, out=out, run=run, said=stream.getvalue())


def test_every_picture_has_both_answers_whatever_the_method_does(scanned: Scanned) -> None:
    for name, (_, verdict, reason) in PICTURES.items():
        record = scanned.records[name]
        answer = record.synthetic
        assert answer is not None and answer.verdict is verdict and reason in answer.reason, name
        assert (answer.method, answer.calibration) == (str(scanned.method), "faked")
        assert record.not_asked == []
        failed = [finding for finding in record.findings if finding.kind == "synthetic_not_judged"]
        assert len(failed) == (name in FAILED) and (answer.score is None) == (name in FAILED)
        assert record.outputs.synthetic_heatmap is None if name in FAILED else answer.parts == {"early": 0.25}
    assert scanned.run.exit_code == 0
    assert scanned.run.counts.failures == 0


def test_the_first_answer_is_that_of_a_scan_without_the_second(scanned: Scanned, plain: Scanned) -> None:
    for name, record in scanned.records.items():
        other = plain.records[name]
        assert record.localization == other.localization
        assert (record.verdict, record.reason, record.score) == (other.verdict, other.reason, other.score)
        for path in (record.outputs.mask, record.outputs.heatmap, record.outputs.preview):
            assert path and (scanned.out / path).read_bytes() == (plain.out / path).read_bytes()
        assert other.not_asked == ["synthetic"] and other.outputs.synthetic_overlay is None
    assert plain.run.synthetic is None and "also" not in plain.run.settings
    assert not (plain.out / "synthetic").exists()


def test_its_heatmap_is_turned_as_the_picture_is(scanned: Scanned) -> None:
    record = scanned.records["turned.jpg"]
    assert record.outputs.synthetic_heatmap and record.outputs.synthetic_overlay
    with Image.open(scanned.out / record.outputs.synthetic_heatmap) as image:
        values = np.asarray(image)
    assert values.shape == (record.height, record.width)
    assert (values[:, -1] == 65535).all() and not values[:, :-1].any(), "orientation 6: the first row is at the right"
    with Image.open(scanned.out / record.outputs.synthetic_overlay) as image:
        assert image.size == (record.width, record.height)


def test_the_run_counts_both_and_names_the_method(scanned: Scanned, plain: Scanned) -> None:
    answers = [record.synthetic.verdict for record in scanned.records.values() if record.synthetic]
    counts = scanned.run.counts
    assert (counts.generated, counts.synthetic_not_asked) == (answers.count(Verdict.GENERATED), 0)
    assert counts.synthetic_no_evidence == answers.count(Verdict.NO_EVIDENCE) >= 1
    assert counts.synthetic_inconclusive == answers.count(Verdict.INCONCLUSIVE) >= 8
    assert plain.run.counts.synthetic_not_asked == plain.run.counts.images == len(answers)
    info = scanned.run.synthetic
    assert info is not None and (info.kind, info.calibration, info.score_threshold) == ("fake", "faked", 0.8)
    assert (info.figures, info.generators) == (CALIBRATION.figures, ["a <diffusion> model"])
    assert scanned.run.settings["also"] == f"synthetic:{scanned.method}"
    assert RunRecord.model_validate_json((scanned.out / "run.json").read_text()) == scanned.run


def test_no_evidence_is_never_said_without_saying_of_what(scanned: Scanned, plain: Scanned) -> None:
    sentence = "Whether whole pictures were generated was not asked"
    assert plain.said.count(sentence) == 1 and sentence not in scanned.said
    for said in (plain.said, scanned.said):
        assert "no evidence of an edited region" in said
    assert "generated as a whole" in scanned.said and "generated as a whole" not in plain.said
    assert sentence in (plain.out / "index.html").read_text()
    assert sentence not in (scanned.out / "index.html").read_text()


def test_the_page_shows_the_method_its_figures_and_its_limits(scanned: Scanned) -> None:
    page = (scanned.out / "index.html").read_text()
    for text in ("It knows &lt;one&gt; pixel.", "a &lt;diffusion&gt; model", "false generated", "0.0125", "faked"):
        assert text in page
    assert "<one>" not in page and "it is a lead, and no proof" in page
    assert "Counts differ" not in page


def test_every_row_says_what_was_asked(scanned: Scanned, plain: Scanned) -> None:
    def rows(out: Path) -> dict[str, dict[str, str]]:
        text = (out / "summary.csv").read_text("utf-8")
        return {row["locator"].removeprefix("evidence/"): row for row in csv.DictReader(io.StringIO(text, newline=""))}

    for name, row in rows(scanned.out).items():
        answer = scanned.records[name].synthetic
        assert answer is not None and row["synthetic_verdict"] == answer.verdict.value
        assert row["synthetic_score"] == ("" if answer.score is None else str(answer.score))
        assert (row["synthetic_method"], row["synthetic_reason"]) == (str(scanned.method), answer.reason)
    for row in rows(plain.out).values():
        assert row["synthetic_verdict"] == "not_asked" and "edited regions alone" in row["synthetic_reason"]
        assert row["synthetic_score"] == row["synthetic_method"] == row["synthetic_confidence"] == ""


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["--only", "generated"], {"generated.png"}),
        (["--where", "synthetic_score>0.4", "--where", "synthetic_score<0.5"], {"between.png"}),
        (["--where", "synthetic_verdict=no_evidence", "--where", "locator~png"], {"nothing.png"}),
    ],
)
def test_exports_select_by_the_second_answer(
    arguments: list[str], left: set[str], scanned: Scanned, tmp_path: Path
) -> None:
    out = tmp_path / "x.jsonl"
    assert clue(["export", str(scanned.out), "--format", "jsonl", "--out", str(out), *arguments]) == ExitCode.OK
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert {line["locator"].removeprefix("evidence/") for line in lines} - {"turned.jpg"} == left
    assert all(line["verdicts"]["synthetic"]["method"] == str(scanned.method) for line in lines)


def test_processes_answer_as_one_device_does(
    scanned: Scanned, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_WORKER", "tests.clue_cli.fake_method")
    options = ScanOptions(model=str(model), devices=("cpu", "cpu"), synthetic=str(scanned.method))
    run = pipeline.scan([scanned.evidence], tmp_path / "out", options, SILENT)
    assert run.counts == scanned.run.counts
    for name, record in by_name(tmp_path / "out").items():
        other = scanned.records[name]
        assert record.verdicts == other.verdicts
        if path := other.outputs.synthetic_heatmap:
            assert (tmp_path / "out" / path).read_bytes() == (scanned.out / path).read_bytes()


def test_results_are_reused_for_the_same_question_alone(model: Path, tmp_path: Path) -> None:
    (tmp_path / "evidence").mkdir()
    picture(tmp_path / "evidence" / "a.png", 250)
    method = write_method(tmp_path / "method")

    def resumed(synthetic: Path | None) -> int:
        chosen = ScanOptions(model=str(model), device="cpu", synthetic=None if synthetic is None else str(synthetic))
        return pipeline.scan([tmp_path / "evidence"], tmp_path / "out", chosen, SILENT).counts.resumed

    assert [resumed(None), resumed(None), resumed(method), resumed(method)] == [0, 1, 0, 1]
    write_method(method, replace(CALIBRATION, score_threshold=0.99))
    assert resumed(method) == 0, "another calibration is another answer"
    assert (answer := by_name(tmp_path / "out")["a.png"].synthetic) and answer.verdict is Verdict.INCONCLUSIVE
    assert resumed(None) == 0
    assert not [*(tmp_path / "out" / "synthetic").rglob("*.png")]


def test_the_settings_of_before_are_what_they_were() -> None:
    assert judging(None) == {}
    assert "also" not in ScanOptions().settings()


def photo(**changes: Any) -> Photo:
    return replace(Photo("a.jpg", identity(), 0, 1, np.zeros((72, 96, 3), np.uint8)), **changes)


def claim(kind: str, **data: str) -> Finding:
    return Finding(kind=kind, source=Origin.METADATA, statement="It says so.", data=dict(data))


@pytest.mark.parametrize(
    ("changes", "score", "verdict", "reason"),
    [
        ({}, 0.9, "generated", "above the threshold"),
        ({"doubt": "data are damaged"}, 0.9, "inconclusive", "data are damaged (score 0.900"),
        ({"doubt": "data are damaged"}, 0.1, "inconclusive", "data are damaged (score 0.100"),
        ({"rows": (0, 63)}, 0.9, "inconclusive", "a part of the picture is missing"),
        ({"findings": (claim(VIDEO_FRAME),)}, 0.9, "inconclusive", "the method did not learn from videos"),
        ({"findings": (claim("generator_settings"),)}, 0.1, "inconclusive", "the file itself declares"),
        ({"findings": (claim("generator_settings"),)}, 0.9, "generated", "above the threshold"),
        ({"findings": (claim("generator_settings"),)}, 0.5, "inconclusive", "score 0.500 lies between"),
        (
            {"findings": (claim("digital_source_type", code="trainedalgorithmicmedia"),)},
            0.1,
            "inconclusive",
            "declares",
        ),
        ({"findings": (claim("credential_actions", code="trainedAlgorithmicMedia"),)}, 0.1, "inconclusive", "declares"),
        ({"findings": (claim("digital_source_type", code="digitalcapture"),)}, 0.1, "no_evidence", "not above"),
        ({"findings": (claim("digital_source_type", code="computationalcapture"),)}, 0.1, "no_evidence", "not above"),
        (
            {"findings": (claim("digital_source_type", code="compositewithtrainedalgorithmicmedia"),)},
            *(0.1, "no_evidence", "not above"),
        ),
        ({"findings": (claim("credential_actions", state="valid"),)}, 0.1, "no_evidence", "not above"),
    ],
)
def test_what_the_file_says_can_only_restrain(
    changes: dict[str, Any], score: float, verdict: str, reason: str, tmp_path: Path
) -> None:
    method = describe(str(write_method(tmp_path / "method")))
    answer = second_answer(Detection(score), method, photo(**changes)).answer
    assert answer.verdict == verdict and reason in answer.reason
    assert (answer.confidence is None) == (verdict == "inconclusive")


def test_a_picture_of_a_size_that_the_method_was_not_calibrated_on_says_so(tmp_path: Path) -> None:
    method = describe(str(write_method(tmp_path / "method", replace(CALIBRATION, fitted_megapixels=(1.0, 2.0)))))
    second = second_answer(Detection(0.9), method, photo())
    assert [finding.kind for finding in second.findings] == ["synthetic_size_not_calibrated"]
    assert "1 to 2 megapixels; this one has 0.0069" in second.findings[0].statement
    assert second.answer.confidence is None
    assert not second_answer(Detection(0.9), replace(method, calibration=CALIBRATION), photo()).findings


def test_the_promise_of_a_calibration_file_is_kept_with_the_method(tmp_path: Path) -> None:
    content = calibrations.content(calibrations.made()) | {"schema_version": "1.1"}
    own = OwnCalibration("calib.json", "a" * 64, SyntheticCalibrationFile(**content, method="fake"))
    method = describe(str(write_method(tmp_path / "method")))
    method = replace(method, calibration=own.applied_to(method.calibration))
    info = method_info(method, own)
    assert info.calibration_promise is not None and "are called generated by mistake" in info.calibration_promise
    assert info.calibration_file_sha256 == own.sha256
    facts = method_facts(info)
    assert info.calibration_promise in str(facts["facts"]) and facts["promised"]
    assert judging(method, own) != judging(method, replace(own, sha256="b" * 64))  # p-values are of its photos
    assert second_answer(Detection(0.9), method, photo(), own).answer.p_value is None  # a size that it has not seen


def test_a_method_that_was_never_calibrated_says_nothing(tmp_path: Path) -> None:
    method = describe(str(write_method(tmp_path / "method", Calibration())))
    assert second_answer(Detection(1.0), method, photo()).answer.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("also", "code", "named"),
    [
        ("synthetic:{tmp}/nowhere", ExitCode.WEIGHTS_MISSING, "There is no method"),
        ("synthetic:{tmp}/damaged", ExitCode.WEIGHTS_MISSING, "are damaged"),
        ("synthetic:{tmp}/unknown", ExitCode.WEIGHTS_MISSING, "cannot be understood"),
        ("synthetic:", ExitCode.BAD_USAGE, "is no question"),
        ("query", ExitCode.BAD_USAGE, "is no question"),
    ],
)
def test_a_method_that_is_not_there_ends_the_run_at_once(
    also: str, code: ExitCode, named: str, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_method(tmp_path / "damaged", damaged=True)
    write_method(tmp_path / "unknown", kind="magic")
    picture(tmp_path / "a.png", 9)
    words = ["scan", str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--model", str(model)]
    assert clue([*words, "--also", also.format(tmp=tmp_path)]) == code
    assert named in " ".join(capfd.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_a_kind_that_this_version_does_not_have_is_said(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="kind 'later', expected one of traces"):
        describe(str(write_method(tmp_path / "method", kind="later")))


def test_a_method_that_cannot_be_loaded_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = write_method(tmp_path / "method")
    found = find_method(NetworkOptions(synthetic=str(method)))
    assert found is not None
    setup = {"device": "cpu", "dtype": "float32", "synthetic": str(method), "synthetic_digest": found.digest}
    assert load_second(setup) is not None and load_second({}) is None
    with pytest.raises(WeightsError, match="changed since the run began"):
        load_second(setup | {"synthetic_digest": "0" * 64})
    (method / "unloadable").touch()
    with pytest.raises(WeightsError, match="tensors are damaged"):
        load_second(setup)

    def large(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(fake_method, "load", large)
    with pytest.raises(UsageError, match="does not fit into the memory of cpu"):
        SecondQuestion(found, "cpu", None).load()  # type: ignore[arg-type]


def test_fail_on_generated(capfd: pytest.CaptureFixture[str]) -> None:
    counts = Counts(images=3, generated=1)
    assert exit_code(counts, interrupted=False, fail_on={FailOn.GENERATED}) is ExitCode.FORGED_FOUND
    assert exit_code(counts, interrupted=False, fail_on={FailOn.FORGED}) is ExitCode.OK
    assert exit_code(Counts(images=3, forged=1), interrupted=False, fail_on={FailOn.GENERATED}) is ExitCode.OK
    assert clue(["scan", ".", "--out", "nowhere", "--fail-on", "generated"]) == ExitCode.BAD_USAGE
    assert "--also synthetic" in capfd.readouterr().err
