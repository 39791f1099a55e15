"""Which pictures count, and from their scores to thresholds, promises and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from clue_cli.calibrate import DetectionScores, ForgeOutputs, Measured, expanded, fit
from clue_cli.commands import calibrate
from clue_cli.errors import UsageError
from clue_cli.networks.synthetic import SecondQuestion
from clue_cli.scan import ScanOptions, pipeline
from clue_cli.scan.calibration_file import by_task, load
from model.calibration import Calibration
from model.reporter import SILENT
from model.synthetic import Detection, Method
from model.synthetic.verdict import judge_synthetic
from tests.clue_cli.calibrations import DIGEST, high, low, made, measured
from tests.model.data.made import touch


def test_authentic_photos_alone() -> None:
    found = made()
    assert found.score_threshold == 197 / 398  # the second largest of 199
    assert found.no_evidence_below == 189 / 398  # the tenth largest: at most 5 of 100
    assert found.promised_rate == 2 / 200
    assert found.promised_rate < found.rate_bound < 0.05
    assert found.n == 199 and found.scores == sorted(found.scores)
    assert found.megapixels == [2.0, 2.0]
    assert [left.locator for left in found.left_out] == ["a/cut.jpg"] and found.not_pictures == 3
    for words in ("at most 1 %", "199 authentic photos", "1/200", "95 % confidence", "at most 5 % of authentic"):
        assert words in found.statement


def test_forged_images_refit_the_confidence_and_measure_what_is_found() -> None:
    found = made(forged=high())
    forged = found.forged
    assert forged is not None
    assert forged.slope > 0
    even = Calibration(slope=forged.slope, intercept=forged.intercept).p_forged(forged.even)
    assert even == pytest.approx(0.5)
    rare = 197 / 398
    assert (found.score_threshold, found.no_evidence_below) == (max(rare, forged.even), min(rare, forged.even))
    assert forged.above == sum(image.score > found.score_threshold for image in high().images)
    low_end, high_end = forged.interval
    assert low_end < forged.above / 40 < high_end
    assert 0 < forged.expected_calibration_error < 0.5
    assert found.megapixels == [2.0, 4.0]
    assert f"Of 40 forged images {forged.above} were above" in found.statement


def test_a_score_that_is_rare_but_likelier_authentic_is_no_forgery() -> None:
    """Forged images far above: between the authentic ones and one half neither criterion alone decides."""
    found = made(measured(*[i / 1000 for i in range(199)]), measured(*[0.9 + i / 1000 for i in range(20)], kind="f"))
    assert found.forged is not None
    assert found.no_evidence_below == 0.197 < found.score_threshold == found.forged.even
    assert found.forged.above == 20


def test_equal_scores_keep_the_promise() -> None:
    found = made(measured(*[0.2] * 150, *[0.7] * 49))
    assert found.score_threshold == found.no_evidence_below == 0.7, "nothing is above it"


@pytest.mark.parametrize(
    ("authentic", "forged", "fpr", "message"),
    [
        (low(98), None, 0.01, "needs at least 99 authentic photos, 98 could be used"),
        (low(18), high(), 0.05, "needs at least 19 authentic photos"),
        (Measured(), None, 0.3, "needs at least 3 authentic photos, 0 could be used"),
        (low(), high(9), 0.01, "at least 10 images of each kind"),
        (low(9), high(), 0.3, "at least 10 images of each kind"),
        (
            measured(*[image.score for image in high().images] * 3),
            measured(*[0.01] * 20, kind="f"),
            0.05,
            "do not tell",
        ),
        (low(), measured(*[0.9] * 20, kind="a"), 0.01, "the same bytes"),
    ],
)
def test_what_makes_no_calibration(authentic: Measured, forged: Measured | None, fpr: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        made(authentic, forged, fpr)


@pytest.mark.parametrize(("count", "rate"), [(98, "0.011"), (40, "0.025"), (7, "0.125")])
def test_too_few_photos_are_told_what_they_can_promise(count: int, rate: str) -> None:
    with pytest.raises(UsageError) as caught:
        made(low(count), fpr=0.001)
    assert f"--fpr {rate}" in str(caught.value.advice)
    assert made(low(count), fpr=float(rate), inconclusive_rate=0.5).n == count


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Two forgeries and an authentic picture, as `clue forge` writes them."""
    kinds = ("splice", "authentic", "removal")
    names = [f"{place}/{n:06}.png" for n in range(3) for place in ("images", "masks")]
    touch(tmp_path / "f", "forge.json", *names)
    rows = [
        {"number": n, "file": f"images/{n:06}.png", "mask": f"masks/{n:06}.png", "kind": kind, "photos": ["p/a.jpg"]}
        for n, kind in enumerate(kinds)
    ]
    (tmp_path / "f" / "forgeries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    touch(tmp_path, "other/a.png")
    return tmp_path / "f"


@pytest.mark.parametrize(("forged", "numbers"), [(True, (0, 2)), (False, (1,))])
def test_images_of_one_class(output: Path, forged: bool, numbers: tuple[int, ...]) -> None:
    expected = [output / "images" / f"{n:06}.png" for n in numbers]
    outputs = ForgeOutputs(forged=forged)
    assert [path for path in sorted(output.rglob("*.png")) if outputs.counts(path)] == expected
    assert outputs.counts(output.parent / "other" / "a.png")
    (note,) = outputs.notes
    assert f"the {len(numbers)} {'forged' if forged else 'authentic'} ones count" in note
    assert expanded([output / "forgeries.jsonl", output], forged=forged) == [*expected, output]


def test_a_list_that_cannot_be_read(output: Path) -> None:
    (output / "forgeries.jsonl").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="cannot be read"):
        ForgeOutputs(forged=True).counts(output / "images" / "000000.png")
    with pytest.raises(UsageError, match="cannot be read"):
        expanded([output / "forgeries.jsonl"], forged=True)


class TestSecondQuestion:
    """Calibrations of a method, beside those of the network."""

    METHOD = Method("my-method", "bi-lora", "e" * 64, Calibration("own", score_threshold=0.9, no_evidence_below=0.9))

    def calibrated(self, folder: Path, forged: Measured | None = None) -> Path:
        content = fit(
            low(), forged, fpr=0.01, inconclusive_rate=0.05, model=self.METHOD, device="cpu", dtype="float32",
            paths=(["a"], ["f"] if forged else []),
        )  # fmt: skip
        path = folder / "method.json"
        path.write_text(content.model_dump_json())
        return path

    def test_it_names_question_method_and_digest_and_speaks_of_generated_pictures(self, tmp_path: Path) -> None:
        path = self.calibrated(tmp_path, high())
        content = json.loads(path.read_text())
        assert (content["task"], content["method"], content["model_name"]) == ("synthetic", "bi-lora", "my-method")
        own = load(path, "e" * 64, "synthetic")
        assert "are called generated by mistake" in own.content.words()
        assert "forge" not in own.content.words()
        applied = own.applied_to(self.METHOD.calibration)
        assert applied.score_threshold == own.content.score_threshold < 0.9
        assert judge_synthetic(0.95, applied, 2.0).verdict == "generated"
        assert (judge_synthetic(0.95, applied, 2.0).confidence or 0) > 0.5
        assert judge_synthetic(0.001, applied, 2.0).verdict == "no_evidence"
        assert own.content.forged is not None and "40 generated and 199 authentic" in applied.fitted_on

    def test_one_for_another_question_or_method_is_refused(self, tmp_path: Path) -> None:
        method, model = self.calibrated(tmp_path), tmp_path / "model.json"
        model.write_text(made().model_dump_json())
        assert "task" not in json.loads(model.read_text()), "as before"
        assert by_task([method, model]) == {"synthetic": method, "localization": model}
        for paths in ([method, method], [model, model]):
            with pytest.raises(UsageError, match="for the same question"):
                by_task(paths)
        with pytest.raises(UsageError, match="is about whether whole pictures were generated"):
            load(method, "e" * 64)
        with pytest.raises(UsageError, match="is about where pictures were edited"):
            load(model, DIGEST, "synthetic")
        with pytest.raises(UsageError, match="made for the method my-method"):
            load(method, "f" * 64, "synthetic")

    def test_pictures_of_which_nothing_is_said_do_not_count(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("model.synthetic.load", lambda *_: Brightness())
        for number in range(6):
            Image.new("RGB", (40, 30), (number * 40,) * 3).save(tmp_path / f"{number}.png")
        Image.new("RGB", (4, 4), (9, 9, 9)).save(tmp_path / "tiny.png")
        detector = SecondQuestion(self.METHOD, "cpu", torch.float32)
        scores = DetectionScores([tmp_path], ScanOptions(), detector, SILENT, pytest.fail, forged=False)
        found = scores.run()
        assert [image.score for image in found.images] == [number * 40 / 255 for number in range(6)]
        assert [(left.code, left.message) for left in found.left_out] == [("not_judged", "Not judged: too small.")]

    @pytest.mark.parametrize("number_format", [torch.int8, torch.float32])
    def test_where_the_network_computes_in_int8_the_method_does_in_float32(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number_format: torch.dtype
    ) -> None:
        monkeypatch.setattr("model.synthetic.load", lambda *_: Brightness())
        monkeypatch.setattr("model.synthetic.describe", lambda _: self.METHOD)
        monkeypatch.setattr("clue_cli.networks.find_devices", lambda *_: (("cpu",), number_format))
        for number in range(12):
            Image.new("RGB", (40, 30), (number * 20,) * 3).save(tmp_path / f"{number}.png")
        content = calibrate._execute([tmp_path], [], ScanOptions(), "my-method", 0.4, 0.5, quiet=True)
        assert content.dtype == "float32"
        options = ScanOptions(synthetic_calibration=self.calibrated(tmp_path))
        _, own = pipeline._calibrated(self.METHOD, options, number_format)
        assert own is not None and own.content.dtype == "float32"


class Brightness:
    """Scores a picture by its first value."""

    def detect(self, pixels: NDArray[np.uint8]) -> Detection:
        if len(pixels) < 8:
            raise ValueError("too small")
        return Detection(float(pixels[0, 0, 0]) / 255)
