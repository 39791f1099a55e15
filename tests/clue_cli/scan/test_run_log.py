"""What a scan keeps about a run does not grow with the evidence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from clue_cli.networks import find_model
from clue_cli.records import PromisedRate, Question
from clue_cli.scan import ScanOptions, run_log
from clue_cli.scan.calibration_file import OwnCalibration
from clue_cli.scan.error_rates import rates_of_run
from model import synthetic
from model.reporter import SILENT
from tests.clue_cli.calibrations import made
from tests.tiny_model import write_tiny_model


def test_lists_end_and_counts_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_log, "_LISTED", 3)
    monkeypatch.setattr(run_log, "_EXTENSIONS", 2)
    checkpoint = find_model(str(write_tiny_model(tmp_path / "tiny")))
    log = run_log.RunLog([tmp_path], ScanOptions(), checkpoint, checkpoint.calibration, "cpu", "float32", SILENT)
    for number in range(5):
        log.alert(f"alert {number}")
        log.skipped("former results", f"former {number}")
        log.evidence_changed(f"changed {number}")
        log.not_hashed(f"archive {number}", "gone")
        log.not_a_picture(f"x{number}")
    log.close("finished")
    log.close("failed", 5)  # what comes after the end can fail
    assert log.run.alerts == ["alert 0", "alert 1", "alert 2"]
    assert log.run.earlier_results == ["former 0", "former 1", "former 2"]
    assert log.run.skipped == {"former results": 5}
    assert log.run.not_pictures_by_type == {"(others)": 3, "x0": 1, "x1": 1}
    assert log.run.evidence_unchanged is False
    warnings = log.run.warnings
    assert (
        sum(text.startswith("changed ") for text in warnings)
        == sum(text.startswith("archive ") for text in warnings)
        == 3
    )
    assert [text for text in warnings if text.startswith("2 further")] == [
        "2 further files changed while being scanned; each has a failure record.",
        "2 further archives could not be hashed.",
    ]


def test_a_run_keeps_the_error_rates_of_its_model(tmp_path: Path) -> None:
    mini, tiny = find_model("mini"), find_model(str(write_tiny_model(tmp_path / "tiny")))
    known = rates_of_run(mini, mini.calibration)[Question.LOCALIZATION]
    assert [rate.kind for rate in known.measured] == ["camera", "camera_cut", "web", "web_compressed_again", "screen"]
    assert (known.model_digest, known.promised) == (mini.digest, None)
    assert rates_of_run(tiny, tiny.calibration)[Question.LOCALIZATION].measured == []
    other = replace(mini.calibration, pixel_threshold=0.7)
    assert rates_of_run(mini, other)[Question.LOCALIZATION].measured == []


def test_a_run_keeps_the_error_rates_of_its_method() -> None:
    mini, method = find_model("mini"), synthetic.describe("traces")
    known = rates_of_run(mini, mini.calibration, method=method)[Question.SYNTHETIC]
    assert [(rate.kind, rate.n, rate.flagged, rate.inconclusive) for rate in known.measured] == [
        ("camera", 53, 0, 0),
        ("web", 73, 0, 0),
    ]
    assert known.score_threshold == method.calibration.score_threshold


def test_a_run_keeps_what_its_calibration_promises(tmp_path: Path) -> None:
    content = made(digest=find_model("mini").digest)
    mini, own = find_model("mini"), OwnCalibration("calib.json", "a" * 64, content)
    known = rates_of_run(mini, own.applied_to(mini.calibration), own)[Question.LOCALIZATION]
    assert (known.measured, known.calibration_sha256) == ([], "a" * 64)
    assert known.promised == PromisedRate(n=content.n, flagged=content.promised_rate, bound=content.rate_bound)
