"""`clue calibrate` and `clue scan --calibration` with a tiny model: from photos to a record that names its promise."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from clue_cli import app
from clue_cli import calibrate as module
from clue_cli.errors import ExitCode
from clue_cli.networks import Unpredicted
from clue_cli.scan import ScanOptions
from clue_cli.scan.calibration_file import parse
from model.calibration import Calibration
from model.reporter import SILENT, Reporter
from model.whole_file import earlier
from tests.clue_cli.networks.fake import Starved
from tests.faults.pictures import encoded, photo, tiff
from tests.tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 photos that count, five of them in an archive, and all that does not count."""
    folder = tmp_path_factory.mktemp("photos") / "authentic"
    folder.mkdir()
    pictures = {f"{i:02d}.jpg": encoded(photo(96 + i % 3 * 8, 80, seed=i), "JPEG", quality=75 + i) for i in range(24)}
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        for name in list(pictures)[19:]:
            archive.writestr(name, pictures.pop(name))
    for name, data in pictures.items():
        (folder / name).write_bytes(data)
    (folder / "copy.jpg").write_bytes(pictures["00.jpg"])
    (folder / "cut.jpg").write_bytes(pictures["01.jpg"][:300])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "pages.tif").write_bytes(tiff(2))
    (folder / "note.txt").write_text("no picture")
    (folder / ".hidden.jpg").write_bytes(encoded(photo(96, 96, seed=99), "JPEG"))
    return folder


@pytest.fixture(scope="module")
def two_kinds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Bright pictures and dark ones, which a random network scores differently."""
    folders = tmp_path_factory.mktemp("kinds") / "bright", tmp_path_factory.mktemp("kinds") / "dark"
    for folder, lowest in zip(folders, (220, 0), strict=True):
        folder.mkdir()
        for i in range(12):
            shown = photo(96, 96, seed=200 + i).point(lambda value, lowest=lowest: lowest + value // 8)
            (folder / f"{i}.png").write_bytes(encoded(shown, "PNG"))
    return folders


@pytest.fixture(scope="module")
def calibration(model: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "calib.json"
    assert calibrate(photos, out, model, "--fpr", "0.1", "--inconclusive", "0.5") == ExitCode.SOME_FAILED
    return out


def calibrate(authentic: Path, out: Path, model: Path, *words: str) -> int:
    return app.run(
        ["calibrate", "--authentic", str(authentic), "--out", str(out), "--model", str(model), "--device", "cpu",
         "--dtype", "float32", *words]
    )  # fmt: skip


def scan(evidence: Path, out: Path, model: Path, *words: str) -> int:
    return app.run(["scan", str(evidence), "--out", str(out), "--model", str(model), "--device", "cpu", "-q", *words])


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]


def test_what_counts_and_what_does_not(calibration: Path, model: Path) -> None:
    made = parse(calibration.read_bytes())
    assert made.n == 24
    assert made.model_name == model.name and made.dtype == "float32"
    assert made.not_pictures == 1
    assert {(left.locator, left.code) for left in made.left_out} == {
        ("authentic/copy.jpg", "duplicate"),
        ("authentic/cut.jpg", "corrupt_image"),
        ("authentic/empty.jpg", "empty_file"),
        ("authentic/pages.tif", "not_judged"),
        ("authentic/pages.tif", "further_page"),
    }
    assert made.promised_rate == 2 / 25
    assert made.statement == made.words()


def test_what_a_person_sees(
    photos: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clue_cli.progress.LINE_SECONDS", 0.0)
    best = tmp_path / "run" / "best"
    shutil.copytree(model, earlier(best))  # as a training leaves it that was killed while it replaced its best model
    calibrate(photos, tmp_path / "c.json", best, "--fpr", "0.1", "--hidden")
    said = capsys.readouterr()
    assert said.out == ""
    for words in (
        f"{best} is missing, as a training ended while it replaced it",
        "left out: authentic/cut.jpg: ",
        " · 5 left out, 1 file without a picture",
        "left out: authentic/copy.jpg: The same bytes as authentic/00.jpg.",
        "authentic: 12 images · ",
        "authentic: 25 images · ",
        "Of new authentic photos at most 7.69 % are called forged by mistake (asked for: at most 10 %)",
        "smallest rate that can be promised is 1/26",
        "else no evidence; none is inconclusive",
        "an --inconclusive above --fpr would leave scores in between inconclusive",
        "use it with `clue scan --calibration`",
    ):
        assert words in said.err
    calibrate(photos, tmp_path / "d.json", model, "--fpr", "0.1", "--inconclusive", "0.3", "--hidden")
    assert "inconclusive in between" in capsys.readouterr().err


def test_every_record_names_the_calibration(calibration: Path, photos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    scan(photos, out, model, "--calibration", str(calibration))
    made, sha = parse(calibration.read_bytes()), hashlib.sha256(calibration.read_bytes()).hexdigest()
    run = json.loads((out / "run.json").read_text())
    assert (run["model"]["calibration"], run["model"]["calibration_sha256"]) == ("calib.json", sha)
    assert run["model"]["calibration_promise"] == made.words()
    assert run["model"]["dtype"] == "float32", "as in the calibration, whatever `auto` would be"
    assert run["settings"]["calibration"] == str(calibration)
    images = {record["locator"]: record for record in records(out) if record["kind"] == "image" and not record["page"]}
    for record in images.values():
        assert (record["model"]["calibration"], record["model"]["calibration_sha256"]) == ("calib.json", sha)
        answer = record["verdicts"]["localization"]
        assert answer["score_threshold"] == made.score_threshold
        assert answer["no_evidence_below"] == made.no_evidence_below
        assert record["confidence"] is None, "nobody measured it"
    judged = [record for record in images.values() if "too small" not in record["reason"]]
    assert len(judged) == 25
    # The scores are those of the calibration, to the last bit; the copy counts here.
    assert sorted({record["score"] for record in judged}) == sorted(set(made.scores))
    assert all(
        (record["verdicts"]["localization"]["p_value"] <= made.fpr) == (record["score"] > made.score_threshold)
        for record in judged
    )
    assert sum(record["verdict"] == "forged" for record in judged) <= 2
    assert images["authentic/pages.tif"]["verdicts"]["localization"]["p_value"] is None, (
        "the calibration knows no image so small"
    )
    page = (out / "index.html").read_text()
    assert "Promised error rate" in page and sha in page and "called forged by mistake" in page


def test_another_calibration_is_another_setting(calibration: Path, model: Path, tmp_path: Path) -> None:
    evidence, out = tmp_path / "one.jpg", tmp_path / "out"
    evidence.write_bytes(encoded(photo(96, 80, seed=500), "JPEG"))
    other = tmp_path / "elsewhere.json"
    other.write_bytes(calibration.read_bytes())
    resumed = []
    for words in ([], ["--calibration", str(calibration)], ["--calibration", str(other)], []):
        assert scan(evidence, out, model, "--dtype", "float32", *words) == ExitCode.OK
        resumed.append(json.loads((out / "run.json").read_text())["counts"]["resumed"])
    assert resumed == [0, 0, 1, 0], "the bytes count, not the name"


def test_forged_images_give_a_confidence(
    two_kinds: tuple[Path, Path], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, (authentic, forged) = tmp_path / "both.json", two_kinds
    if calibrate(authentic, out, model, "--forged", str(forged), "--fpr", "0.1") == ExitCode.BAD_USAGE:
        assert "do not tell" in capsys.readouterr().err
        authentic, forged = forged, authentic  # which kind scores higher is chance
        assert calibrate(authentic, out, model, "--forged", str(forged), "--fpr", "0.1") == ExitCode.OK
    assert "confidence refitted: expected calibration error" in capsys.readouterr().err
    made = parse(out.read_bytes())
    assert made.forged is not None and len(made.forged.scores) == 12
    scan(forged, tmp_path / "out", model, "--calibration", str(out))
    confident = [r["confidence"] for r in records(tmp_path / "out") if r["verdict"] != "inconclusive"]
    assert confident and all(value >= 0.5 for value in confident)
    assert "one’s own images" in (tmp_path / "out" / "index.html").read_text()


def test_too_few_photos(photos: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "c.json"
    assert calibrate(photos, out, model, "-q") == ExitCode.BAD_USAGE
    assert capsys.readouterr().err.splitlines() == [
        "clue: --fpr 0.01 needs at least 99 authentic photos, 24 could be used.",
        "      24 can promise 1/25 at best: --fpr 0.04. Photos that are copies, too small, or could not be read do not "
        "count.",
    ]
    assert not out.exists()


def test_another_model_or_format_is_refused(
    calibration: Path, photos: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_tiny_model(tmp_path / "other", Calibration(name="other", score_cells=5))
    assert scan(photos, tmp_path / "out", other, "--calibration", str(calibration)) == ExitCode.BAD_USAGE
    said = capsys.readouterr().err
    assert parse(calibration.read_bytes()).model_digest in said and "this scan uses" in said
    words = ("--calibration", str(calibration), "--dtype", "bfloat16")
    assert scan(photos, tmp_path / "out", model, *words) == ExitCode.BAD_USAGE
    assert not (tmp_path / "out").exists(), "nothing was done"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--fpr", "0"], 2, "between 0 and 1"),
        (["--fpr", "1"], 2, "between 0 and 1"),
        (["--fpr", "nan"], 2, "between 0 and 1"),
        (["--inconclusive", "inf"], 2, "between 0 and 1"),
        (["--fpr", "0.3", "--inconclusive", "0.2"], 2, "less than --fpr"),
        (["--authentic", ""], 2, "an empty path"),
        (["--authentic", "/nowhere/at/all"], 3, "Not found"),
        (["--model", "/nowhere/at/all"], 4, "No model"),
        (["--device", "cuda:99"], 2, "no device"),
    ],
)
def test_wrong_words(
    words: list[str], code: int, message: str, tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrate(tmp_path, tmp_path.parent / f"{tmp_path.name}.json", model, *words) == code
    assert message in " ".join(capsys.readouterr().err.split())


def test_the_photos_are_only_read(photos: Path, model: Path, tmp_path: Path) -> None:
    assert calibrate(photos, photos / "c.json", model) == ExitCode.BAD_USAGE
    (tmp_path / "link").symlink_to(photos)
    assert calibrate(photos, tmp_path / "link" / "c.json", model) == ExitCode.BAD_USAGE
    assert calibrate(photos / "00.jpg", photos / "00.jpg", model, "--overwrite") == ExitCode.BAD_USAGE


@pytest.mark.parametrize(
    ("name", "message"), [("there", "there already"), ("folder", "a folder"), ("no/c", "not there")]
)
def test_where_nothing_can_be_written(
    name: str, message: str, photos: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").write_text("precious")
    (tmp_path / "folder").mkdir()
    assert calibrate(photos, tmp_path / name, model) == ExitCode.OUTPUT_NOT_WRITABLE
    assert message in capsys.readouterr().err
    assert (tmp_path / "there").read_text() == "precious"


def test_no_picture_at_all(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / ".hidden.jpg").write_bytes(b"x")
    assert calibrate(folder, tmp_path / "c.json", model) == ExitCode.NOTHING_TO_SCAN
    said = capsys.readouterr().err
    assert "No authentic photo could be used" in said and "1 hidden file, folder or link" in said


def test_what_the_network_cannot_do_is_left_out(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged, judge = [], module.judge

    def broken(*of_one: Any) -> Any:
        judged.append(1)
        if len(judged) == 1:
            raise ValueError("the heatmap holds values that are not finite")
        return judge(*of_one)

    monkeypatch.setattr(module, "judge", broken)
    out = tmp_path / "c.json"
    out.write_text("old")
    calibrate(photos, out, model, "--fpr", "0.1", "-q", "--overwrite")
    assert list(tmp_path.iterdir()) == [out], "nothing is left beside it"
    made = parse(out.read_bytes())
    assert made.n == 23
    assert [left.code for left in made.left_out].count("not_finite") == 1


class Lost(Starved):
    """A network whose process died, twice."""

    def predict(self, images: Any) -> Any:
        return (Unpredicted(image[0], "it died") for image in images if image is not None)


def scored(paths: list[Path], network: Starved, reporter: Reporter = SILENT) -> module.Measured:
    return module.Scores(paths, ScanOptions(), [network], Calibration(), reporter, pytest.fail, forged=False).run()


@pytest.mark.parametrize(("network", "code"), [(Starved(), "out_of_memory"), (Lost(), "internal_error")])
def test_an_image_that_is_not_predicted_is_left_out(photos: Path, network: Starved, code: str) -> None:
    found = scored([photos / "00.jpg"], network)
    assert [left.code for left in found.left_out] == [code]
    assert not found.images


def test_what_is_left_out_stands_in_the_order_of_the_walk(photos: Path) -> None:
    class Noted(Reporter):
        def advance(self, n: int = 1, status: str | None = None, *, reused: bool = False) -> None:
            seen.append(status)

    seen: list[str | None] = []
    left_out = scored([photos], Starved(), Noted()).left_out
    assert seen == [f"{number} left out" for number in range(1, len(left_out) + 1)]
    assert [one.locator for one in left_out] == sorted(one.locator for one in left_out)


def test_several_devices_give_the_same_file(calibration: Path, photos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.json"
    words = ["calibrate", "--authentic", str(photos), "--out", str(out), "--model", str(model), "--dtype", "float32"]
    words += ["--fpr", "0.1", "--inconclusive", "0.5", "--devices", "cpu,cpu", "--batch", "2"]
    assert app.run(words) == ExitCode.SOME_FAILED
    one, two = (json.loads(path.read_bytes()) | {"created": ""} for path in (calibration, out))
    assert one == two
