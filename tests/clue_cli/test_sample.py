"""`clue sample`: what it writes, that the truth is true, and that it never touches what it did not write."""

from __future__ import annotations

import csv
import io
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from clue_cli import app, sample
from clue_cli.errors import ClueError, ExitCode, OutputError, UsageError
from clue_cli.sample import SOURCES, Exhibit, build_sample, truth_folder, write_sample

SAMPLE = build_sample()
EDITED = [exhibit for exhibit in SAMPLE.exhibits if exhibit.picture.mask is not None]


def _open(exhibit: Exhibit) -> Image.Image:
    """The exhibit as a reader meets it: through its archives, at its page."""
    *archives, last = exhibit.locator.split("!/")
    files = dict(SAMPLE.evidence)
    for archive in archives:
        with zipfile.ZipFile(io.BytesIO(files[archive])) as opened:
            files = {name: opened.read(name) for name in opened.namelist()}
    image = Image.open(io.BytesIO(files[last]))
    image.seek(exhibit.page)
    return image


def test_the_sample_has_every_kind_of_evidence() -> None:
    labels = {exhibit.picture.label for exhibit in SAMPLE.exhibits}
    assert labels == {"authentic", "spliced", "copy-moved", "removed"}
    formats = {_open(exhibit).format for exhibit in SAMPLE.exhibits}
    assert formats == {"JPEG", "PNG", "TIFF", "WEBP"}
    assert max(exhibit.locator.count("!/") for exhibit in SAMPLE.exhibits) == 2
    assert {exhibit.page for exhibit in SAMPLE.exhibits} == {0, 1}
    assert any("<b>" in path for path in SAMPLE.evidence)
    assert any(not path.isascii() for path in SAMPLE.evidence)


@pytest.mark.parametrize("exhibit", SAMPLE.exhibits, ids=lambda exhibit: f"{exhibit.locator}#{exhibit.page}")
def test_each_file_shows_the_picture_it_is_said_to_be(exhibit: Exhibit) -> None:
    image = _open(exhibit)
    turned = {6: Image.Transpose.ROTATE_270}.get(image.getexif().get(0x0112, 1))
    shown = image.convert("RGB") if turned is None else image.convert("RGB").transpose(turned)
    difference = np.asarray(shown, dtype=float) - exhibit.picture.pixels
    assert np.abs(difference).mean() < 12, "not the picture, or not the right way up"


@pytest.mark.parametrize("exhibit", EDITED, ids=lambda exhibit: f"{exhibit.locator}#{exhibit.page}")
def test_the_mask_is_where_the_picture_differs_from_its_host(exhibit: Exhibit) -> None:
    picture = exhibit.picture
    assert picture.mask is not None
    host = np.asarray(Image.open(io.BytesIO(_source_bytes(picture.sources[0]))).convert("RGB"), dtype=float)
    difference = np.abs(host - picture.pixels).mean(axis=2)
    assert 0.004 < picture.mask.mean() < 0.3
    assert difference[picture.mask].mean() > 2.5 * difference[~picture.mask].mean()
    stored = np.asarray(Image.open(io.BytesIO(SAMPLE.truth[exhibit.mask_path])))
    assert stored.dtype == np.uint8
    assert np.array_equal(stored, picture.mask * np.uint8(255))


def _source_bytes(name: str) -> bytes:
    return bytes((sample.files("skimage") / "data" / name).read_bytes())


def test_the_table_of_truth_lists_every_image_once() -> None:
    rows = list(csv.DictReader(io.StringIO(SAMPLE.truth["truth.csv"].decode())))
    expected = {(exhibit.locator, str(exhibit.page)) for exhibit in SAMPLE.exhibits}
    assert len(rows) == len(expected)
    assert {(row["locator"], row["page"]) for row in rows} == expected
    assert {row["mask"] for row in rows if row["mask"]} == set(SAMPLE.truth) - {"truth.csv"}
    for row in rows:
        assert (row["label"] == "authentic") == (float(row["forged_area_ratio"]) == 0)
        assert set(row["sources"].split()) <= set(SOURCES)


def test_every_source_is_named_with_a_free_licence() -> None:
    text = SAMPLE.evidence["SOURCES.txt"].decode()
    used = {source for exhibit in SAMPLE.exhibits for source in exhibit.picture.sources}
    assert used == set(SOURCES)
    for name, licence in SOURCES.items():
        assert name in text
        assert "CC0" in licence or "Public domain" in licence


def test_a_name_that_lies_and_a_camera_that_tells() -> None:
    assert Image.open(io.BytesIO(SAMPLE.evidence["odd names/really a png.jpg"])).format == "PNG"
    exif = Image.open(io.BytesIO(SAMPLE.evidence["DCIM/IMG_0001.jpg"])).getexif()
    assert (exif[0x010F], exif[0x0110], exif[0x0112]) == ("Example Cameras", "Sample One", 6)
    assert exif.get_ifd(0x8825)[1] == "N"
    assert "Retouch" in Image.open(io.BytesIO(SAMPLE.evidence["DCIM/IMG_0002.jpg"])).getexif()[0x0131]


def test_the_damaged_files_are_damaged() -> None:
    with pytest.raises(OSError, match="truncated"):
        Image.open(io.BytesIO(SAMPLE.evidence["damaged/cut short.jpg"])).load()
    with pytest.raises((OSError, UnidentifiedImageError)), warnings.catch_warnings():
        Image.open(io.BytesIO(SAMPLE.evidence["damaged/header only.jpg"])).load()


def test_the_same_bytes_every_time() -> None:
    sample.pictures.cache_clear()
    again = build_sample()
    assert again.evidence == SAMPLE.evidence
    assert again.truth == SAMPLE.truth


def _tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_writes_the_case_and_beside_it_the_truth(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "case"
    write_sample(folder)
    assert _tree(folder) == SAMPLE.evidence
    assert _tree(tmp_path / "new" / "case-truth") == SAMPLE.truth


def test_writes_its_own_sample_again(tmp_path: Path) -> None:
    folder = tmp_path / "case"
    write_sample(folder)
    (folder / "DCIM" / "IMG_0001.jpg").write_bytes(b"changed")
    (folder / "SOURCES.txt").unlink()  # as an interrupted run might leave it
    write_sample(folder)
    assert _tree(folder) == SAMPLE.evidence


@pytest.mark.parametrize(
    ("foreign", "content"),
    [
        ("case/mine.jpg", b"photo"),
        ("case/DCIM/IMG_9999.jpg", b"photo"),
        ("case/SOURCES.txt", b"my own list of sources"),
        ("case-truth/notes.txt", b"notes"),
        ("case-truth/truth.csv", b"my,own,table"),
    ],
)
def test_refuses_a_folder_with_other_files_and_leaves_it_alone(tmp_path: Path, foreign: str, content: bytes) -> None:
    (tmp_path / foreign).parent.mkdir(parents=True)
    (tmp_path / foreign).write_bytes(content)
    with pytest.raises(UsageError, match="not empty") as raised:
        write_sample(tmp_path / "case")
    assert raised.value.advice
    assert _tree(tmp_path) == {foreign: content}


def test_refuses_to_write_through_a_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_bytes(b"precious")
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "SOURCES.txt").symlink_to(precious)
    with pytest.raises(UsageError):
        write_sample(tmp_path / "case")
    assert precious.read_bytes() == b"precious"


def test_refuses_a_file_for_a_folder(tmp_path: Path) -> None:
    (tmp_path / "case").write_bytes(b"")
    with pytest.raises(UsageError, match="not a folder"):
        write_sample(tmp_path / "case")


def test_says_when_it_may_not_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError) as raised:
        write_sample(tmp_path / "file" / "case")
    assert raised.value.exit_code is ExitCode.OUTPUT_NOT_WRITABLE


def test_the_truth_of_the_current_folder_is_its_sibling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert truth_folder(Path()) == tmp_path.with_name(f"{tmp_path.name}-truth")


def test_says_when_scikit_image_lacks_its_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample.pictures.cache_clear()
    monkeypatch.setattr(sample, "files", lambda package: tmp_path)
    with pytest.raises(ClueError, match=r"astronaut\.png"):
        build_sample()


def test_the_command_talks_on_stderr_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["sample", "--out", str(tmp_path / "[bold]case")]) == ExitCode.OK
    out, err = capsys.readouterr()
    assert out == ""
    assert "[bold]case: 23 files" in err
    assert "truth.csv" in err


@pytest.mark.parametrize("words", [[], ["a", "--out", "b"]])
def test_one_folder_must_be_named(words: list[str]) -> None:
    assert app.run(["sample", *words]) == ExitCode.BAD_USAGE
