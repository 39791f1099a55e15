"""Which pictures count, and from their scores to thresholds, promises and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clue_cli.calibrate import ForgeOutputs, Measured, expanded
from clue_cli.errors import UsageError
from model.calibration import Calibration
from tests.clue_cli.calibrations import high, low, made, measured
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
