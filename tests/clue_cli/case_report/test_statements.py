"""Sentences of records in German: composed again where the form is known, and quoted whole where it is not."""

from __future__ import annotations

import io
import string
from pathlib import Path

import pytest
from PIL import Image

from clue_cli.case_report.statements import translated, worded
from clue_cli.evidence.claims import claim_findings
from clue_cli.evidence.compression import compression_findings
from clue_cli.evidence.item import Item, Unreadable
from clue_cli.evidence.reader import read_item
from clue_cli.records import FailureCode
from clue_cli.texts import LANGUAGES, texts


@pytest.mark.parametrize(
    ("english", "german"),
    [
        ("3 regions are marked, 17.02% of the picture.", "3 Bereiche sind markiert, 17,02 % des Bildes."),
        ("score 0.900 is above the threshold 0.846", "Score 0,900 liegt über dem Schwellenwert 0,846"),
        (
            "Region 1 matches another place of the picture, 32×264 pixels at 301, 139. Repeated structures match "
            "without an edit.",
            "Bereich 1 gleicht einer anderen Stelle des Bildes, 32×264 Pixel bei 301, 139. Wiederkehrende Strukturen "
            "gleichen sich auch ohne Bearbeitung.",
        ),
        (
            "The file is on the alert list {0} a.txt.",
            "Die Datei steht auf der Alarmliste {0} a.txt.",
        ),
    ],
)
def test_a_known_form_is_composed_again(english: str, german: str) -> None:
    assert translated(english, texts("de")) == german
    assert translated(english, texts("en")) == english


@pytest.mark.parametrize(
    "sentence",
    [
        "3 regions are marked, 17.02% of the picture. And more.",
        "Many regions are marked, 17.02% of the picture.",
        "score 0.900 is above the threshold 0.846\n",
        "The name says <b>, the content is png.",
        "x" * 100_000,
    ],
)
def test_any_other_is_quoted_as_english(sentence: str) -> None:
    said = translated(sentence, texts("de"))
    assert isinstance(said, dict)
    assert (said["text"], said["language"], said["before"]) == (sentence, "en", "„")
    assert said["after"] == "“ (im englischen Wortlaut des Programms)"
    assert worded(sentence, texts("de")) == f"„{sentence}{said['after']}"


def test_what_is_found_in_a_common_file_is_said_in_german() -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Canon", "NIKON D80"
    exif.get_ifd(0x8769).update({0xA002: 4000, 0xA003: 300, 0x829A: 0.01})
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "JPEG", exif=exif, qtables="high", subsampling=0)
    with Image.open(buffer) as opened:
        found = claim_findings(opened, buffer.getvalue(), b"") + compression_findings(opened, opened.convert("RGB"))
    assert {"camera_contradicts", "size_differs", "quantization_tables"} <= {one.kind for one in found}
    assert [one.statement for one in found if not isinstance(translated(one.statement, texts("de")), str)] == []


@pytest.mark.parametrize(
    ("english", "german"),
    [
        (
            "EXIF says it was last saved by Adobe Photoshop CS3 Windows. Such programs also import, resize and convert "
            "pictures without changing what they show.",
            "zuletzt von Adobe Photoshop CS3 Windows gespeichert",
        ),
        ("screen or drawing: nearly uniform: brightness varies by less than 2 grey levels", "weniger als 2 Graustufen"),
        (
            "the method could not judge the picture: too small: 50×50 pixels, 256 on each side are needed",
            "zu klein: 50×50 Pixel, auf jeder Seite sind 256 nötig",
        ),
        (
            "Whether the whole picture was generated could not be judged: it is taken for a screen or a drawing, and "
            "the method was made for photographs.",
            "und das Verfahren ist für Fotografien gemacht.",
        ),
        (
            "a part of the picture is missing, and the question is about the whole (score 0.065 is not above 0.714)",
            "(Score 0,065 liegt nicht über 0,714)",
        ),
        ("the method could not judge the picture: no idea", "„no idea“ (im englischen Wortlaut des Programms)"),
    ],
)
def test_more_known_forms(english: str, german: str) -> None:
    said = translated(english, texts("de"))
    assert isinstance(said, str) and german in said


@pytest.mark.parametrize(
    ("content", "name", "limit", "german"),
    [
        (b"", "a.jpg", 1.0, "Die Datei ist leer."),
        (b"words", "a.jpg", 1.0, "Die Datei ist wie ein Bild benannt (jpeg), ihr Inhalt ist aber keines (text)."),
        (b"gimp xcf file" * 9, "a.xcf", 1.0, "clue decodiert keine Bilder des Formats xcf."),
        (b"\x89PNG\r\n\x1a\n" * 20_000, "a.png", 0.125, "Die Datei ist größer als 0,125 MiB."),
    ],
)
def test_failures_of_reading(tmp_path: Path, content: bytes, name: str, limit: float, german: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    failed = read_item(Item(name, None, path, lambda: path.open("rb")), limit)
    assert isinstance(failed, Unreadable)
    assert translated(failed.message, texts("de")) == german
    assert failed.advice is None or isinstance(translated(failed.advice, texts("de")), str)


def test_each_failure_code_has_words() -> None:
    for code in FailureCode:
        assert texts("de")(f"report.failures.{code.value}").endswith(f" ({code.value})")


def test_languages_have_the_same_texts_and_placeholders() -> None:
    def placeholders(template: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(template) if name}

    english = texts("en").templates
    for language in LANGUAGES:
        others = texts(language).templates
        assert others.keys() == english.keys()
        assert [key for key in english if placeholders(english[key]) != placeholders(others[key])] == []
        assert [key for key in english if key.startswith("report.") and not others[key] and english[key]] == []
