"""`clue report --pdf`: what is in the PDF; nothing of the evidence breaks out, and nothing is lost silently."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from PIL import Image

from clue_cli.app import run as clue
from clue_cli.case_report import MANIFEST
from clue_cli.case_report.typeset import shown
from clue_cli.errors import ExitCode, UsageError
from clue_cli.records import (
    BoundingBox,
    Counts,
    ErrorRates,
    ExifBrief,
    Finding,
    MeasuredRate,
    MethodInfo,
    NotExamined,
    Origin,
    Question,
    Region,
    Verdict,
    Weight,
)
from clue_cli.results.notes import NOTES, MergedNote, NoteLog
from clue_cli.results.scan_store import LOCK
from clue_cli.results.selection import Selection
from tests.clue_cli.case_report.conftest import Report
from tests.clue_cli.case_report.reading import closed, fonts, structure, text_of
from tests.clue_cli.results.made import SHA, failure, first_schema, identity, image

Results = Callable[..., Path]

HOSTILE = [
    "case/#panic(1).jpg",
    'case/"]; #read("/etc/passwd") [.jpg',
    "case/$x^2$ *bold* _it_ `raw` @label <label> \\u{41}.jpg",
    "case/<script>alert(1)</script>&amp;.jpg",
    "case/{run} {0} {{x}}.jpg",
    "case/invoice\u202egpj.exe",
    "case/zero\u200bwidth\u2066.jpg",
    "case/写真 صورة فوتوغرافية תמונה \U0001f600.jpg",
    "case/Ωμέγα Жук ünïcödé.jpg",
    "case/" + " ".join(chr(code) for code in range(0x621, 0x6FF)) + ".jpg",
]


def region(number: int = 0) -> Region:
    box = BoundingBox(x=number % 5, y=number % 3, width=1, height=1)
    return Region(box=box, area=1, area_ratio=0.1, mean_probability=0.6, peak_probability=0.9)


def test_a_report_is_tagged_searchable_and_has_its_fonts(results: Results, report: Report) -> None:
    folder = results(
        image("case/a.jpg", verdict=Verdict.FORGED, score=0.9123, regions=[region()], region_count=1),
        image("case/b.jpg", verdict=Verdict.NO_EVIDENCE, score=0.1),
        failure("case/c.jpg"),
        counts=Counts(files=3, images=2, forged=1, no_evidence=1, failures=1),
        evidence_unchanged=True,
    )
    (pdf,) = report(folder, title="4 Js 123/26")

    text = text_of(pdf)
    for words in ("4 Js 123/26", "Image 1 of 2: case/a.jpg", "0.912", "traces of an edit (forged)", "It is cut short."):
        assert words in text
    assert "Counts differ" not in text
    assert closed(pdf).count(SHA) >= 5, "on the page of each image, in the list, and with the failure"
    assert f"Page {len(pdf.pages)} of {len(pdf.pages)}" in text
    assert text.count("report of 2026-03-04 05:06:07 (UTC+00:00) Page") == len(pdf.pages)
    assert "Unchanged: every file" in text
    assert pdf.metadata.title == "Image forensics report: 4 Js 123/26"
    root = pdf.trailer["/Root"]
    assert root["/Lang"] == "en"
    assert root["/MarkInfo"]["/Marked"]
    assert b"pdfuaid:part" in root["/Metadata"].get_data(), "checked against PDF/UA-1 when it was made"
    tags = structure(pdf)
    assert tags["/Figure"] >= 6, tags
    assert tags["/Table"] and tags["/H1"], tags
    assert fonts(pdf) and all(fonts(pdf).values()), fonts(pdf)
    assert next(entry.title for entry in pdf.outline if not isinstance(entry, list)) == "What was asked"


def test_german_has_its_own_words_numbers_and_dates(results: Results, report: Report) -> None:
    statements = [
        ("type_mismatch", "The name says jpeg, the content is png."),
        ("note", "Nobody has translated this sentence."),
    ]
    findings = [Finding(kind=kind, source=Origin.FILE, statement=said) for kind, said in statements]
    record = image(
        "case/a.jpg",
        verdict=Verdict.FORGED,
        score=0.9123,
        reason="score 0.912 is above the threshold 0.846",
        findings=findings,
        not_examined=[
            NotExamined(
                rows=[4, 9], box=BoundingBox(x=0, y=4, width=9, height=5), reason="The end of the file is missing"
            )
        ],
    )
    (pdf,) = report(results(record), "de")

    text = text_of(pdf)
    for words in ("Bearbeitungsspuren", "Score 0,912 liegt über dem Schwellenwert 0,846", "04.03.2026, 05:06:07"):
        assert words in text
    assert "Der Name sagt jpeg, der Inhalt ist png." in text
    assert "„Nobody has translated this sentence.“ (im englischen Wortlaut des Programms)" in text
    assert "Zeilen 4 bis 9, wie gespeichert. Das Ende der Datei fehlt" in text
    assert "above the threshold" not in text
    assert pdf.trailer["/Root"]["/Lang"] == "de"


def test_numbers_that_decide_are_told_apart(results: Results, report: Report) -> None:
    record = image("case/a.jpg", verdict=Verdict.FORGED, score=0.84621)
    answer = record.localization.model_copy(
        update={"score_threshold": 0.84619, "no_evidence_below": 0.6, "p_value": 0.0000213}
    )
    record = record.model_copy(update={"verdicts": {Question.LOCALIZATION: answer}})
    (pdf,) = report(results(record))
    text = text_of(pdf)
    assert "0.84621; forged above 0.84619, no evidence up to 0.60000" in text
    assert "0.0000213" in text


def test_hostile_strings_are_shown_and_do_nothing(results: Results, report: Report) -> None:
    claims = ExifBrief(camera_model='#image("/etc/hosts")', software="\u202e]#")
    records = [
        image(name, exif=claims, findings=[Finding(kind="note", source=Origin.METADATA, statement=f"It says {name}.")])
        for name in HOSTILE
    ]
    folder = results(*records, evidence=HOSTILE, command_line=["clue", *HOSTILE], warnings=HOSTILE)
    (pdf,) = report(folder, title="#panic() \udce9")

    text = closed(pdf)
    for name in HOSTILE[:7]:
        assert text.count(shown(name).replace(" ", "")) >= 3, name
    for spelled in ("⟨U+202E⟩", "⟨U+200B⟩", "⟨U+2066⟩", "⟨U+DCE9⟩"):
        assert spelled in text
    assert "Ωμέγα" in text and "Жук" in text
    assert not {"\u202e", "\u200b", "\u2066"} & set(text)
    for letter in ("写", "😀"):  # a glyph where a font has it, else its number: never an empty box
        assert letter in text or f"⟨U+{ord(letter):04X}⟩" in text
    assert "root:" not in text, "no file is read"


def test_long_names_hundreds_of_findings_and_a_hundred_regions_are_there_whole(
    results: Results, report: Report
) -> None:
    name = "case/" + "".join(f"{number:05d}" for number in range(2000)) + ".jpg"
    findings = [
        Finding(kind="note", source=Origin.FILE, statement=f"Finding number {n}.", weight=Weight.SUPPORTS_EDIT)
        for n in range(300)
    ]
    folder = results(
        image(
            name, findings=findings, regions=[region(n) for n in range(100)], region_count=123, verdict=Verdict.FORGED
        )
    )
    (pdf,) = report(folder)

    text = closed(pdf)
    pages = [page.extract_text().split("\nRun ")[0] for page in pdf.pages]
    assert name in "".join("".join(pages).split()), "ten thousand characters over several pages"
    assert all(f"Findingnumber{n}." in text for n in range(300))
    assert "100of123regionsarelisted" in text


def _to_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.unlink(), "is missing from the results folder"),
        (lambda file: file.write_bytes(file.read_bytes()[:40]), "is damaged and cannot be shown"),
        (lambda file: file.write_bytes(b""), "is damaged and cannot be shown"),
        (_to_pipe, "is damaged and cannot be shown"),
        (lambda file: Image.new("L", (7, 7)).save(file, "PNG"), "does not have the size that the record states"),
        (lambda file: (file.unlink(), file.symlink_to("/etc/hostname")), "outside of the results folder"),
    ],
)
def test_a_picture_that_cannot_be_shown_is_said_in_its_place(
    results: Results, report: Report, spoil: Callable[[Path], Any], said: str
) -> None:
    folder = results(image("case/a.jpg"), image("case/b.jpg"))
    _without_hashes(folder)
    spoil(next(folder.glob("masks/case/a.jpg*")))
    (pdf,) = report(folder)
    assert text_of(pdf).count(said) == 1
    assert "Image 2 of 2: case/b.jpg" in text_of(pdf)


def _without_hashes(folder: Path) -> None:
    """Makes the records such as versions before schema 2.3 wrote them, without the hashes of the files of results."""
    log = folder / "records.jsonl"
    records = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    log.write_text("".join(json.dumps({**record, "written": []}) + "\n" for record in records), "utf-8")


def test_a_picture_that_somebody_replaced_is_not_shown(results: Results, report: Report) -> None:
    folder = results(image("case/a.jpg"), image("case/b.jpg"))
    mask = next(folder.glob("masks/case/a.jpg*"))
    Image.new("L", Image.open(mask).size).save(mask, "PNG")
    (pdf,) = report(folder)
    assert text_of(pdf).count("is not the one that the scan wrote (its SHA-256 differs), and is not shown") == 1


def test_copies_are_said_with_the_first_of_them_and_verdicts_that_differ(results: Results, report: Report) -> None:
    hashes = ("00000000000000ff", "00000000000000fe", "ffffffff00000000")
    pictures = [
        image(f"case/{name}.jpg", verdict=verdict, perceptual_hash=hashed, file=identity(f"{number:064x}"))
        for name, number, hashed, verdict in (
            ("first", 1, hashes[0], Verdict.FORGED),
            ("near", 2, hashes[1], Verdict.NO_EVIDENCE),
            ("other", 3, hashes[2], Verdict.NO_EVIDENCE),
            ("same", 1, hashes[0], Verdict.FORGED),
        )
    ]
    (pdf,) = report(results(*pictures))
    text = text_of(pdf)
    assert "Group 1: 2 other images of the results are the same file or look like this one." in text
    assert "Group 1: looks like case/first.jpg; 1 of 64 bits of the perceptual hashes differ." in text
    assert "Group 1: the same file as case/first.jpg." in text
    assert text.count("Verdicts within the group differ") == 3
    assert text.count("(group 1)") == 3 and "case/other.jpg (group" not in text

    (pdf,) = report(results(), selection=Selection(only=("no_evidence",)))
    assert "looks like case/first.jpg" in text_of(pdf), "which has no page of its own"


def test_a_report_is_the_same_each_time(results: Results, report: Report, tmp_path: Path) -> None:
    folder = results(image("case/a.jpg", verdict=Verdict.FORGED, score=0.9, regions=[region()], region_count=1))
    contents = set()
    for _ in range(2):
        report(folder)
        contents.add((tmp_path / "case.pdf").read_bytes())
    assert len(contents) == 1


def test_how_error_rates_were_counted_is_said_and_the_title_page_stands_alone(results: Results, report: Report) -> None:
    rate = MeasuredRate(
        kind="screen", pictures="screens", n=140, flagged=2, flagged_interval=[0.0017, 0.0507],
        inconclusive=11, inconclusive_interval=[0.0399, 0.1362],
    )  # fmt: skip
    rates = {Question.LOCALIZATION: ErrorRates(model_digest="a" * 64, pixel_threshold=0.5, measured=[rate])}
    regions = [region(number) for number in range(2)]
    picture = image("case/a.jpg", verdict=Verdict.FORGED, score=0.9, regions=regions, region_count=2)
    (pdf,) = report(results(picture, error_rates=rates))
    text = text_of(pdf)
    assert "fitted on the other half" in text
    assert "1.4 % [0.2 %; 5.1 %] 7.9 % [4.0 %; 13.6 %]" in text
    assert "Command line" not in pdf.pages[0].extract_text()
    assert "numbered as in the table" in text and "the first 2" not in text


def test_the_second_question_was_counted_on_pictures_that_were_not_generated(results: Results, report: Report) -> None:
    rate = MeasuredRate(
        kind="web", pictures="web photos", n=73, flagged=0, flagged_interval=[0, 0.05], inconclusive=0,
        inconclusive_interval=[0, 0.05],
    )  # fmt: skip
    method = MethodInfo(
        name="traces", kind="traces", digest="b" * 64, base="", calibration="traces", calibration_sha256="c" * 64,
        fitted_on="", fitted_megapixels=[0, 0], score_threshold=0.9, no_evidence_below=0.7, figures={}, generators=[],
        limits=[],
    )  # fmt: skip
    rates = {
        Question.LOCALIZATION: ErrorRates(model_digest="a" * 64, pixel_threshold=0.5, measured=[rate]),
        Question.SYNTHETIC: ErrorRates(model_digest="b" * 64, score_threshold=0.9, measured=[rate]),
    }
    (pdf,) = report(results(image("case/a.jpg"), error_rates=rates, synthetic=method))
    text = text_of(pdf)
    assert text.count("Untouched pictures of this kind") == 1
    assert text.count("Pictures of this kind that were not generated") == 1


def test_an_interrupted_changed_and_damaged_run_says_so_on_its_first_page(results: Results, report: Report) -> None:
    folder = results(
        image("case/a.jpg"),
        status="interrupted",
        evidence_unchanged=False,
        not_opened={"video": 2},
        counts=Counts(files=3, images=2, failures=0),
    )
    with (folder / "records.jsonl").open("ab") as log:
        log.write(b'{"kind":"image","torn')
    (pdf,) = report(folder)
    first = " ".join(pdf.pages[0].extract_text().split())
    for words in (
        "The run is not complete.",
        "Evidence changed",
        "2 video",
        "left out: 1. What they said",
        "images: 2 in run.json",
    ):
        assert words in first


def test_an_alert_list_that_is_full_is_no_count(results: Results, report: Report) -> None:
    for number, words in ((999, "On the alert list: 999."), (1000, "On the alert list: 1,000 or more.")):
        (pdf,) = report(results(image("case/a.jpg"), alerts=[f"case/{n}.jpg" for n in range(number)]))
        assert words in text_of(pdf)


def test_only_failures_no_records_and_nothing_selected(tmp_path: Path, results: Results, report: Report) -> None:
    (pdf,) = report(results(failure("case/broken.jpg", advice="Get another copy.")))
    assert "No image was judged." in text_of(pdf)
    assert "damaged picture (corrupt_image): " in text_of(pdf)
    assert "Advice: Get another copy." in text_of(pdf)


def test_failures_are_said_in_german(results: Results, report: Report) -> None:
    folder = results(
        failure("case/a.jpg", code="too_many_pages", message="The file holds more than 1000 pages; the rest was not "
            "examined.", advice="Raise --max-pages."),
        failure("case/b.zip", code="archive_corrupt", step="archive", message="The archive is damaged (bad header)."),
        failure("case/c.jpg", code="internal_error", message="Nobody knows.", advice="Try that."),
    )  # fmt: skip
    (pdf,) = report(folder, language="de")
    for words in (
        "zu viele Seiten (too_many_pages): Die Datei enthält mehr als 1000 Seiten; der Rest wurde nicht untersucht. "
        "Rat: --max-pages erhöhen.",
        "beschädigtes Archiv (archive_corrupt): Das Archiv ist beschädigt („bad header“).",
        "Fehler des Programms (internal_error): „Nobody knows.“ Rat: „Try that.“",
        "Was in Anführungszeichen steht, ist der englische Wortlaut des Programms.",
    ):
        assert words.replace(" ", "") in closed(pdf)


def test_the_list_names_all_images_when_some_are_selected(results: Results, report: Report) -> None:
    folder = results(
        *(image(f"case/{n}.jpg", verdict=Verdict.FORGED if n == 3 else Verdict.NO_EVIDENCE) for n in range(6))
    )
    (pdf,) = report(folder, selection=Selection(only=("forged",)))
    text = text_of(pdf)
    assert "Image 1 of 1: case/3.jpg" in text
    assert "1 of 6 images, by: --only forged" in text
    assert all(f"case/{n}.jpg" in text for n in range(6))
    (pdf,) = report(folder, selection=Selection(only=("generated",)))
    assert "No image is selected." in text_of(pdf)


def test_many_images_make_volumes_that_appear_together(tmp_path: Path, results: Results, report: Report) -> None:
    folder = results(*(image(f"case/{n}.jpg") for n in range(7)))
    volumes = report(folder, images_per_volume=3, rows_per_volume=4)
    texts = [text_of(volume) for volume in volumes]
    assert len(volumes) == 5, "three of pages and two of the list"
    assert all(f"Volume {n} of 5" in text for n, text in enumerate(texts, 1))
    assert all(sum(f"Image {n} of 7: case/{n - 1}.jpg" in text for text in texts) == 1 for n in range(1, 8))
    assert "Images 5 to 7." in texts[4]
    assert sorted(path.name for path in tmp_path.glob("case*")) == [
        *(f"case-{n:04d}.pdf" for n in range(2, 6)),
        "case.pdf",
    ]


def test_records_of_the_first_schema_are_shown(tmp_path: Path, results: Results, report: Report) -> None:
    import json

    folder = results(image("case/new.jpg"))
    old = first_schema(image("case/old.jpg", findings=[]))
    with (folder / "records.jsonl").open("a") as log:
        log.write(json.dumps(old, separators=(",", ":")) + "\n")
    (pdf,) = report(folder)
    assert "case/old.jpg" in text_of(pdf)


def test_notes_and_the_manifest_are_in_the_report(results: Results, report: Report) -> None:
    folder = results(image("case/a.jpg"))
    note: dict[str, Any] = {
        "locator": "case/a.jpg",
        "page": 0,
        "sha256": SHA,
        "mark": "checked",
        "note": "#strong[Seen]",
        "who": "A. B.",
    }
    log = NoteLog(folder / NOTES)
    log.append(MergedNote(**note, when="2026-03-01T10:00:00+01:00", merged="2026-03-02T10:00:00+01:00"))
    log.close()
    (folder / MANIFEST).write_text(f"{'ab' * 32}  manifest.hashdeep\n")
    (pdf,) = report(folder)
    assert "A. B., 2026-03-01 10:00:00 (UTC+01:00): [checked] #strong[Seen]" in text_of(pdf)
    assert hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest() in closed(pdf)


def test_records_of_a_newer_version_are_told(results: Results, report: Report) -> None:
    (pdf,) = report(results(image("case/a.jpg"), image("case/b.jpg", schema_version="9.1")))
    assert (
        "Records of a newer version. Lines of records.jsonl that a newer version of the program wrote: 1 (schema 9.1"
        in (text_of(pdf))
    )
    assert "Damaged records" not in text_of(pdf)


def test_notes_that_cannot_be_read_are_not_left_out_silently(
    tmp_path: Path, results: Results, report: Report, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = results(image("case/a.jpg"))
    (folder / NOTES).write_text("damaged\ntorn")
    (pdf,) = report(folder)
    assert "Damaged notes. Lines of notes.jsonl that are damaged and were left out: 2." in text_of(pdf)
    for options in ([], ["--pdf", str(tmp_path / "case.pdf")]):
        assert clue(["report", str(folder), *options]) == ExitCode.OK
        assert "Warning: 2 damaged lines of notes.jsonl left out." in capfd.readouterr().err


def test_the_command_writes_one_file_and_leaves_the_results_alone(
    tmp_path: Path, results: Results, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = results(image("case/a.jpg", verdict=Verdict.FORGED))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    target = tmp_path / "case.pdf"
    for _ in range(2):  # an earlier report is replaced
        assert (
            clue(["report", str(folder), "--pdf", str(target), "--only", "forged", "--language", "de"]) == ExitCode.OK
        )
    assert f"PDF: {target}" in capfd.readouterr().err
    assert target.read_bytes().startswith(b"%PDF-")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_what_cannot_be_written_is_refused_and_nothing_is_left(
    tmp_path: Path, results: Results, capfd: pytest.CaptureFixture[str]
) -> None:
    evidence = tmp_path / "evidence"
    evidence.mkdir()
    (tmp_path / "photo.pdf").write_bytes(b"\xff\xd8\xff not a PDF")
    folder = results(image("case/a.jpg"), evidence=[str(evidence)])
    for options, code, words in (
        (["--pdf", str(tmp_path / "case.docx")], ExitCode.BAD_USAGE, "does not end in .pdf"),
        (["--pdf", str(evidence / "case.pdf")], ExitCode.BAD_USAGE, "lies in the evidence"),
        (["--pdf", str(tmp_path / "photo.pdf")], ExitCode.BAD_USAGE, "exists and is no PDF"),
        (["--pdf", str(tmp_path / "none" / "case.pdf")], ExitCode.OUTPUT_NOT_WRITABLE, "No such file"),
        (["--pdf", str(tmp_path / "results" / "case.pdf")], ExitCode.OUTPUT_NOT_WRITABLE, "A scan is writing"),
        (["--pdf", "case.pdf", "--name", "x"], ExitCode.BAD_USAGE, "--name"),
        (["--title", "x"], ExitCode.BAD_USAGE, "--title is for the PDF"),
    ):
        with FileLock(folder / LOCK) if "A scan" in words else nullcontext():
            assert clue(["report", str(folder), *options]) == code, options
        assert words in capfd.readouterr().err
    assert (tmp_path / "photo.pdf").read_bytes() == b"\xff\xd8\xff not a PDF"
    assert not list(evidence.iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"results", "evidence", "photo.pdf"}


def test_more_volumes_than_anybody_reads_are_refused(
    results: Results, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clue_cli.case_report.MOST_VOLUMES", 2)
    folder = results(*(image(f"case/{n}.jpg") for n in range(4)))
    with pytest.raises(UsageError, match="4 volumes") as refused:
        report(folder, images_per_volume=1)
    assert "--only" in (refused.value.advice or "")
