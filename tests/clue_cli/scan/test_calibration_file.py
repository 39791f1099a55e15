"""`calib.json`: what is written is read again, and a damaged or foreign file is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clue_cli.errors import UsageError
from clue_cli.networks import DType
from clue_cli.scan.calibration_file import CalibrationFile, OwnCalibration, load, parse
from model.calibration import Calibration, OwnScore
from tests.clue_cli.calibrations import DIGEST, content, high, low, made

Change = Callable[[dict[str, Any]], object]

ALONE, BOTH = content(made()), content(made(forged=high()))


def text(data: dict[str, Any]) -> bytes:
    return json.dumps(data).encode()


@pytest.mark.parametrize("calibration", [made(), made(forged=high()), made(low(30), fpr=0.2, inconclusive_rate=0.2)])
def test_what_is_written_is_read_again(tmp_path: Path, calibration: CalibrationFile) -> None:
    path = tmp_path / "calib.json"
    path.write_bytes(calibration.model_dump_json(indent=1).encode())
    found = load(path, DIGEST)
    assert found.content == calibration
    assert found.name == "calib.json" and len(found.sha256) == 64
    assert found.content.words() == calibration.statement
    with pytest.raises(UsageError, match=f"{DIGEST}, this scan uses {'e' * 64}"):
        load(path, "e" * 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(score_threshold=0.1), "no_evidence_below exceeds score_threshold"),
        (lambda d: d.update(n=200), "there are 199 scores"),
        (lambda d: d.update(scores=d["scores"][::-1]), "must ascend"),
        (lambda d: d["scores"].__setitem__(3, 0.0001), "must ascend"),
        (lambda d: d["scores"].__setitem__(198, 1.5), "must ascend"),
        (lambda d: d["scores"].__setitem__(198, 0.9), "scores_digest"),
        (lambda d: d["scores"].__setitem__(198, "0.9"), r"scores\[198\]: found `0.9`; expected a number"),
        (lambda d: d.update(scores=[]), "scores"),
        (lambda d: d.update(megapixels=[3, 1]), "smallest and a largest"),
        (lambda d: d.update(megapixels=[-1, 1]), "smallest and a largest"),
        (lambda d: d.update(schema_version="2.0"), "schema_version"),
        (lambda d: d.update(kind="image"), "kind"),
        (lambda d: d.update(dtype="float16"), "dtype"),
        (lambda d: d.update(model_digest="x"), "model_digest"),
        (lambda d: d.update(surprise=1), "surprise: unknown key `surprise`; expected one of kind"),
        (lambda d: d.pop("fpr"), "the file: `fpr` is missing"),
        (lambda d: d.update(fpr="0.01"), "fpr: found `0.01`; expected a number"),
        (lambda d: d.update(fpr=float("nan")), "fpr: found `nan`; expected a finite number"),
        (lambda d: d["forged"].update(slope=-1.0), "forged.slope: found `-1.0`; expected a number greater than 0"),
        (lambda d: d["forged"].update(brier=2.0), "brier"),
        (lambda d: d["forged"].update(scores=[0.9, 0.1]), "must ascend"),
    ],
)
def test_a_changed_file_is_refused(change: Change, message: str) -> None:
    data = json.loads(text(BOTH))
    change(data)
    with pytest.raises(ValueError, match=message):
        parse(text(data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Expecting value"),
        (text(ALONE)[:-100], "JSON|delimiter|Unterminated|Expecting"),
        (b"\x89PNG\r\n", "codec"),
        (b"[]", "the file: found a list of 0; expected a mapping"),
        (b"{}", "the file: `statement` is missing"),
    ],
)
def test_what_is_no_calibration_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "calib.json"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=f"calib.json is no calibration that clue can use: .*(?:{message})"):
        load(path, DIGEST)


@pytest.mark.parametrize("name", ["nothing.json", "folder"])
def test_a_file_that_is_none(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path / name, DIGEST)


def own(calibration: CalibrationFile) -> OwnCalibration:
    return OwnCalibration("calib.json", "a" * 64, calibration)


def test_it_takes_the_place_of_the_models_own() -> None:
    model = Calibration(
        name="tiny",
        pixel_threshold=0.4,
        score_cells=7,
        kinds={"screen or drawing": OwnScore(0.8, 0.9, (1.0,) * 8)},
        fitted_on="made pictures",
        fitted_megapixels=(0.1, 0.2),
    )
    applied = own(made()).applied_to(model)
    assert applied.name == "calib.json"
    assert (applied.pixel_threshold, applied.score_cells) == (0.4, 7), "what makes the score stays"
    assert (applied.score_threshold, applied.no_evidence_below) == (197 / 398, 189 / 398)
    expected = OwnScore(189 / 398, 197 / 398, (1.0,) * 8)
    assert applied.kinds == {"screen or drawing": expected}, "what is promised holds for all kinds of pictures"
    assert not applied.covers(2.0) and applied.knows_size(2.0), "no confidence without forged images"
    both = made(forged=high())
    applied = own(both).applied_to(model)
    assert both.forged is not None
    assert applied.covers(2.0) and not applied.covers(20.0)
    assert applied.p_forged(both.forged.even) == pytest.approx(0.5)
    assert applied.fitted_on == "40 forged and 199 authentic images of one's own, weighing alike"
    assert applied.figures is not None and applied.figures["n"] == 239


def test_p_values() -> None:
    calibration = own(made())
    assert calibration.p_value(1.0) == 1 / 200
    assert calibration.p_value(0.0) == 1.0
    threshold = calibration.content.score_threshold
    assert calibration.p_value(threshold) > 0.01 >= calibration.p_value(threshold + 1e-9)


def test_a_number_format_must_be_the_calibrations() -> None:
    calibration = own(made())
    assert calibration.dtype(DType.AUTO) is calibration.dtype(DType.FLOAT32) is DType.FLOAT32
    with pytest.raises(UsageError, match="made in float32, this scan was to use bfloat16"):
        calibration.dtype(DType.BFLOAT16)


def test_what_weakens_the_promise_is_said() -> None:
    assert own(made()).warnings("cpu") == []
    old = made().model_copy(update={"version": "0.0.1\u202e"})
    version, device = own(old).warnings("cuda:0")
    assert "made with clue 0.0.1\\u202e" in version
    assert "made on cpu, this scan runs on cuda:0" in device
