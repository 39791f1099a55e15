"""What a scan says to look at first."""

from __future__ import annotations

from typing import Any

from clue_cli.records import Counts, FailureCode, Finding, Origin, Question, Verdict
from clue_cli.scan.look_first import MOST, LookFirst
from model.reporter import Reporter
from tests.clue_cli.results.made import answer, failure, identity, image, run

ALERT = Finding(kind="on_alert_list", source=Origin.FILE, statement="It is on the list.")


class Kept(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str, level: Any = "info") -> None:
        self.lines.append(text)


def picture(number: int, score: float, verdict: Verdict = Verdict.FORGED, **changes: Any) -> Any:
    own = identity(f"{number:064x}")
    return image(f"evidence/{number}.jpg", score=score, verdict=verdict, file=own, **changes)


def said(look: LookFirst) -> list[str]:
    return [line.partition(":")[0] for line in look.lines()]


def test_the_strongest_come_first_whatever_the_order() -> None:
    for numbers in (range(200), reversed(range(200))):
        look = LookFirst()
        for number in numbers:
            look.add(picture(number, 0.5 + number / 1000))
        assert said(look) == [f"evidence/{number}.jpg" for number in (199, 198, 197, 196, 195)]


def test_each_group_has_a_line() -> None:
    look = LookFirst()
    look.add(failure("evidence/broken.jpg"))
    look.add(failure("evidence/locked.zip", code=FailureCode.ARCHIVE_ENCRYPTED, message="It is encrypted."))
    look.add(failure("evidence/empty.jpg", code=FailureCode.EMPTY_FILE))
    look.add(picture(50, 0.45, Verdict.INCONCLUSIVE))
    look.add(picture(51, 0.1, Verdict.NO_EVIDENCE, findings=[ALERT]))
    look.add(picture(52, 0.1, Verdict.NO_EVIDENCE))
    for number in range(9):
        look.add(picture(number, 0.9 - number / 100))
    lines = look.lines()
    assert said(look) == [f"evidence/{name}" for name in ("0.jpg", "1.jpg", "51.jpg", "50.jpg", "locked.zip")]
    assert lines[0].endswith("forged (0.90)")
    assert lines[2].endswith("no evidence (0.10), on the alert list")
    assert lines[-1].endswith("failed, It is encrypted.")


def test_the_same_content_takes_one_line() -> None:
    look = LookFirst()
    for number in range(7):
        look.add(picture(3, 0.9).model_copy(update={"locator": f"evidence/copy {number}.jpg"}))
    assert look.lines() == ["evidence/copy 0.jpg (6 more times): forged (0.90)"]


def test_names_are_shortened_and_printable() -> None:
    look = LookFirst()
    look.add(image("e/" + "\u202e" + "long " * 100 + "end.jpg"))
    (line,) = look.lines()
    assert line.isprintable()
    assert "…" in line and "end.jpg: forged" in line and len(line) < 100


def test_nothing_is_flagged() -> None:
    kept = Kept()
    counts = Counts(files=3, images=2, no_evidence=2, failures=1)
    LookFirst().report(run(counts=counts, not_opened={"video": 2}, skipped={"hidden": 4}), "p.html", kept)
    (line,) = kept.lines
    assert "no proof" in line
    assert line.endswith("Not examined: 1 failure, 2 files that can hold pictures, 4 left out by the options.")


def test_nothing_was_examined() -> None:
    kept = Kept()
    LookFirst().report(run(), "p.html", kept)
    assert kept.lines == ["No picture was examined."]


def test_the_page_comes_last() -> None:
    look, kept = LookFirst(), Kept()
    for number in range(20):
        look.add(picture(number, 0.9))
    look.report(run(counts=Counts(images=20, forged=20)), "out/index.html", kept)
    assert len(kept.lines) == 1 + MOST + 1
    assert kept.lines[-1] == "All results: out/index.html"


def test_generated_ones_are_in_the_order_of_that_score() -> None:
    look = LookFirst()
    for number, second in enumerate((0.91, 0.99, 0.95)):
        generated = answer(verdict=Verdict.GENERATED, score=second, method="traces", method_digest="d" * 64)
        edited = answer(verdict=Verdict.INCONCLUSIVE, score=0.45 + number / 100)
        verdicts = {Question.LOCALIZATION: edited, Question.SYNTHETIC: generated}
        look.add(image(f"evidence/{number}.jpg", file=identity(f"{number:064x}"), verdicts=verdicts))
    assert said(look) == [f"evidence/{number}.jpg" for number in (1, 2, 0)]
