"""The whole flow with a tiny model: every file ends in a record, whatever happens on the way."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from clue_cli import __version__
from clue_cli.errors import OutputError, WeightsError
from clue_cli.evidence.hash_lists import HashList, read_hash_list
from clue_cli.evidence.item import Item, Unreadable
from clue_cli.evidence.reader import hash_file
from clue_cli.evidence.sandbox.pool import DecodePool
from clue_cli.evidence.selection import Selection
from clue_cli.networks import DType, local
from clue_cli.plain_words import plain_words
from clue_cli.progress import ShownReporter
from clue_cli.records import RECORD, FailureCode, FailureRecord, ImageRecord, Question, RunRecord, Step
from clue_cli.results.groups import Groups, Kind
from clue_cli.scan import FailOn, ScanOptions, part, pipeline
from clue_cli.scan.assemble import uncalibrated
from model.calibration import Calibration
from model.checkpoint import WEIGHTS_FILE, inspect
from model.predictor import Predictor, tiles
from model.reporter import SILENT, Reporter
from model.verdict import judge
from model.whole_file import earlier
from tests.clue_cli.evidence.test_thumbnail import PICTURE, thumbnail, with_thumbnail
from tests.clue_cli.noted import one_at_a_time
from tests.faults.pictures import jpeg, tiff
from tests.tiny_model import TINY

Scan = Callable[..., RunRecord]

FORMATS = [DType.FLOAT32, DType.BFLOAT16]
"""What is equal to the bit is so in each, whichever of them this machine would choose."""


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    folder = tmp_path / "evidence"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(jpeg(96, 80, quality=80))
    (folder / "sub" / "b.png").write_bytes(_png(100, 150))
    (folder / "note.txt").write_text("not a picture")
    (folder / "cut.jpg").write_bytes(jpeg(96, 80)[:300])
    with zipfile.ZipFile(folder / "case.zip", "w") as archive:
        archive.writestr("x/a.jpg", jpeg(64, 64))
        archive.writestr("pages.tif", tiff(3))
    return folder


def _png(height: int, width: int, seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def scan(model: Path, evidence: Path, tmp_path: Path) -> Scan:
    def run(out: str = "out", progress: Any = None, stop: threading.Event | None = None, **options: Any) -> RunRecord:
        chosen = ScanOptions(model=str(model), device="cpu", **options)
        return pipeline.scan([evidence], tmp_path / out, chosen, progress or SILENT, stop)

    return run


def records(out: Path) -> dict[tuple[str, int | None], ImageRecord | FailureRecord]:
    lines = (out / "records.jsonl").read_text().splitlines()
    found = [RECORD.validate_json(line) for line in lines]
    return {(record.locator, record.page): record for record in found}


def test_every_file_ends_in_a_record_or_a_count(scan: Scan, tmp_path: Path) -> None:
    run = scan()
    found = records(tmp_path / "out")
    assert set(found) == {
        ("evidence/a.jpg", 0),
        ("evidence/sub/b.png", 0),
        ("evidence/cut.jpg", None),
        ("evidence/case.zip!/x/a.jpg", 0),
        *(("evidence/case.zip!/pages.tif", page) for page in range(3)),
    }
    failure = found["evidence/cut.jpg", None]
    assert isinstance(failure, FailureRecord)
    assert failure.code is FailureCode.CORRUPT_IMAGE
    assert failure.other_pages == 0
    counts = run.counts
    assert (counts.files, counts.archives, counts.not_pictures, counts.images, counts.failures) == (6, 1, 1, 6, 1)
    assert counts.forged + counts.no_evidence + counts.inconclusive == 6
    assert run.status == "finished"
    assert run.exit_code == 1
    assert run.evidence_unchanged is True
    assert list(run.archives) == ["evidence/case.zip"]
    assert run.not_pictures_by_type == {"txt": 1}
    for name in ("index.html", "summary.csv", "run.json"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    for record in found.values():
        if isinstance(record, ImageRecord):
            assert record.tiles.count == len(tiles(record.height, record.width, TINY.tile))
            assert sum(r.area for r in record.regions) == round(record.forged_area_ratio * record.width * record.height)


def test_what_a_person_sees(scan: Scan, tmp_path: Path) -> None:
    stream = io.StringIO()
    with ShownReporter(stream=stream) as reporter:
        scan(progress=reporter)
        assert reporter._text().startswith("6 of 6 files · ")
        assert reporter._text().endswith(" forged · 1 failed")
        scan(progress=reporter)
        assert reporter._text().endswith(" forged · 1 failed · 7 reused")
    said = stream.getvalue()
    assert f"clue {__version__}, model " in said
    assert said.count("failed: evidence/cut.jpg: ") == 1
    for row in ("Scan finished", "6", "1 of 6 files", "slowest steps", "reused from earlier scans", "index.html"):
        assert row in said


def test_files_that_need_a_package_are_told_in_one_line(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message, advice = "HEIC pictures need the package pi-heif, which is not installed.", "pip install pi-heif"

    def missing(item: Item, limit: float, hashes: object) -> Unreadable:
        return Unreadable(item.locator, Step.READ, FailureCode.MISSING_EXTRA, message, advice)

    monkeypatch.setattr(pipeline, "read_item", missing)
    stream = io.StringIO()
    with ShownReporter(stream=stream) as reporter:
        run = scan(progress=reporter)
    assert "failed:" not in stream.getvalue()
    assert stream.getvalue().count(f"warning: {message} {advice}") == 1
    assert f"6 files not examined. {message} {advice}" in run.warnings
    found = records(tmp_path / "out")
    assert {getattr(record, "code", None) for record in found.values()} == {FailureCode.MISSING_EXTRA}
    assert len(found) == 6


def test_a_second_run_takes_everything_over_without_loading_the_network(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan()
    before = records(tmp_path / "out")

    def never(*_: object) -> None:
        raise AssertionError("the network was loaded")

    monkeypatch.setattr(local, "load_predictor", never)
    run = scan()
    assert run.counts.resumed == 7
    assert run.counts.images == 6
    assert records(tmp_path / "out") == before


def test_the_threshold_of_the_command_line_is_used_and_recorded(scan: Scan, tmp_path: Path) -> None:
    scan(threshold=0.0)
    for record in records(tmp_path / "out").values():
        if isinstance(record, ImageRecord):
            assert record.threshold == 0.0
            assert record.forged_area_ratio == 1.0


@pytest.mark.parametrize("step", ["predict", "write"])
def test_an_image_that_does_not_fit_memory_is_recorded_and_the_rest_goes_on(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    compute, judge = Predictor.compute, part.judge

    def starved_compute(self: Predictor, jobs: list[Any], *others: Any) -> Any:
        if jobs[0][0].pixels.shape == (100, 150, 3):
            raise MemoryError("no more")
        return compute(self, jobs, *others)

    def starved_judge(pixels: NDArray[np.uint8], *others: Any) -> Any:
        if pixels.shape == (100, 150, 3):
            raise MemoryError
        return judge(pixels, *others)

    if step == "predict":
        monkeypatch.setattr(Predictor, "compute", starved_compute)
    else:
        monkeypatch.setattr(part, "judge", starved_judge)
    assert scan().counts.images == 5
    record = records(tmp_path / "out")["evidence/sub/b.png", 0]
    assert isinstance(record, FailureRecord)
    assert record.code is FailureCode.OUT_OF_MEMORY


def test_results_that_give_way_to_those_of_another_file_are_told(scan: Scan, evidence: Path) -> None:
    assert not any("earlier result" in warning for warning in scan().warnings)
    (evidence / "a.jpg").write_bytes(jpeg(96, 80, quality=20))
    assert any("1 earlier result replaced" in warning for warning in scan().warnings)


def test_an_archive_that_cannot_be_hashed_leaves_open_whether_it_changed(
    scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(path: Path, hashes: Any) -> Any:
        if path.suffix == ".zip":
            raise OSError(5, "Input/output error")
        return hash_file(path, hashes)

    monkeypatch.setattr(pipeline, "hash_file", unreadable)
    run = scan()
    assert run.evidence_unchanged is None
    assert any("could not be hashed" in warning for warning in run.warnings)


def test_a_heatmap_that_is_not_finite_is_no_verdict(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*of_one: object) -> None:
        raise ValueError("the heatmap holds values that are not finite")

    monkeypatch.setattr(part, "judge", broken)
    run = scan()
    assert run.counts.images == 0
    assert {r.code for r in records(tmp_path / "out").values() if isinstance(r, FailureRecord)} == {
        FailureCode.NOT_FINITE,
        FailureCode.CORRUPT_IMAGE,
    }


@pytest.mark.parametrize("when", ["decoded", "judged"])
@pytest.mark.parametrize("name", ["a.jpg", "case.zip"])
def test_evidence_that_changes_meanwhile_is_told(
    scan: Scan, evidence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, when: str
) -> None:
    decode = DecodePool.decode

    def tamper() -> None:
        with (evidence / name).open("ab") as file:
            file.write(b"\0")

    def decoding(self: Any, *args: Any) -> Iterator[Any]:
        tamper()
        yield from decode(self, *args)

    def judging(*args: Any, **kwargs: Any) -> Any:
        tamper()
        return judge(*args, **kwargs)

    if when == "decoded":
        monkeypatch.setattr(DecodePool, "decode", decoding)
    else:
        monkeypatch.setattr(part, "judge", judging)
    run = scan()
    assert run.evidence_unchanged is False
    changed = [
        r
        for r in records(tmp_path / "out").values()
        if isinstance(r, FailureRecord) and r.code is FailureCode.CHANGED_DURING_SCAN
    ]
    assert [r.locator for r in changed] == [f"evidence/{name}"]
    assert any(name in warning for warning in run.warnings)


def test_a_file_is_compared_once_when_all_of_its_pages_are_written(
    scan: Scan, evidence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in evidence.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (evidence / "pages.tif").write_bytes(tiff(3))
    masks: list[int] = []

    def counting(*args: Any) -> Any:
        masks.append(len(list((tmp_path / "out").glob("masks/**/pages.tif*.png"))))
        return hash_file(*args)

    monkeypatch.setattr(pipeline, "hash_file", counting)
    run = scan()
    assert (masks, run.evidence_compared, run.evidence_unchanged) == ([3], 1, True)


@pytest.mark.parametrize(("module", "step"), [(pipeline, "read_item"), (part, "judge")])
def test_a_defect_in_any_thread_ends_the_run_and_says_so(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, step: str
) -> None:
    def defect(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(module, step, defect)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        scan()
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "failed"


@pytest.mark.parametrize("name", ["results.record_log.RecordLog.append", "report.Report.write"])
def test_a_full_disk_ends_the_run_with_an_output_error(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"clue_cli.{name}", full)
    with pytest.raises(OutputError, match="No space left"):
        scan()
    ended = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (ended["status"], ended["exit_code"]) == ("failed", 5)
    # What could not be written is not in the log: the next run computes it.
    monkeypatch.undo()
    assert scan().counts.images == 6


def test_memory_between_the_steps_is_bounded(scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    held = one_at_a_time(monkeypatch)
    assert scan().counts.images == 6
    assert (max(held.most), held.now) == (1, [])


def test_a_second_signal_is_an_interruption(scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "load_predictor", interrupted)
    with pytest.raises(KeyboardInterrupt):
        scan()
    ended = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (ended["status"], ended["exit_code"], ended["evidence_unchanged"]) == ("interrupted", 130, None)


def test_damaged_weights_are_told_and_the_run_is_marked_failed(evidence: Path, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    folder.mkdir()
    for path in model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / WEIGHTS_FILE).write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match="damaged"):
        pipeline.scan([evidence], tmp_path / "out", ScanOptions(model=str(folder), device="cpu"), SILENT)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "failed"


def test_a_model_whose_replacement_was_killed_is_said(evidence: Path, model: Path, tmp_path: Path) -> None:
    best = tmp_path / "run" / "best"
    shutil.copytree(model, earlier(best))
    run = pipeline.scan([evidence], tmp_path / "out", ScanOptions(model=str(best), device="cpu"), SILENT)
    (warning,) = [warning for warning in run.warnings if "is missing" in warning]
    assert str(earlier(best)) in warning
    assert run.model["digest"] == inspect(str(model)).digest


def test_a_score_that_was_never_calibrated_is_said(scan: Scan) -> None:
    """The tiny model brings no calibration."""
    (warning,) = [warning for warning in scan().warnings if "not calibrated" in warning]
    assert "above 0.5" in warning and "clue calibrate" in warning
    assert uncalibrated(Calibration(fitted_on="600 made pictures")) == []


def test_plain_words_stand_in_the_records_and_follow_from_record_and_run(scan: Scan, tmp_path: Path) -> None:
    run, said = scan(), 0
    for record in records(tmp_path / "out").values():
        if isinstance(record, ImageRecord):
            assert record.plain_words == plain_words(record, run)
            said += bool(record.plain_words)
    assert said == run.counts.forged + run.counts.inconclusive
    assert run.error_rates[Question.LOCALIZATION].model_digest == run.model["digest"]


def test_what_was_not_opened_is_counted_by_kind(scan: Scan, evidence: Path, tmp_path: Path) -> None:
    for number in range(20):
        (evidence / f"claim{number}.djvu").write_bytes(b"AT&TFORM...")
    (evidence / "clip.mp4").write_bytes(b"\0\0\0\x14ftypmp42\0\0\0\0mp42")
    (evidence / "old.rar").write_bytes(b"Rar!\x1a\x07\0...")
    stream = io.StringIO()
    with ShownReporter(stream=stream) as reporter:
        run = scan(progress=reporter, fail_on=frozenset({FailOn.UNREAD}))
    assert run.not_opened == {"document": 20, "archive": 1, "video": 1}
    assert run.exit_code == 1
    said = "20 documents, 1 archive and 1 video were not opened; they can hold pictures."
    assert stream.getvalue().splitlines()[-1] == f"NOT EXAMINED: {said}"
    assert "Look first at (" in stream.getvalue()  # at least the file that cannot be read
    assert said in (tmp_path / "out" / "index.html").read_text()


def test_deleted_files_are_counted_apart_from_hidden_ones(scan: Scan, evidence: Path) -> None:
    for name in (".trashed-1700000000-IMG_1.jpg", ".Trash-1000", ".hidden.jpg"):
        (evidence / name).write_bytes(b"")
    run = scan()
    assert run.skipped == {"hidden": 1, "trash": 2}
    assert any("Deleted files" in warning and ": 2 (--hidden" in warning for warning in run.warnings)


def _list(path: Path, *contents: bytes) -> HashList:
    path.write_text("\n".join(hashlib.sha256(content).hexdigest() for content in contents))
    return read_hash_list(path)


def test_known_files_are_left_out_and_those_on_the_alert_list_flagged(
    scan: Scan, evidence: Path, tmp_path: Path
) -> None:
    photo, png = (evidence / "a.jpg").read_bytes(), (evidence / "sub" / "b.png").read_bytes()
    known = _list(tmp_path / "known.txt", photo, png)
    alert = _list(tmp_path / "alert.txt", png, (evidence / "cut.jpg").read_bytes())
    run = scan(known=known, alert=alert)
    found = records(tmp_path / "out")
    assert ("evidence/a.jpg", 0) not in found
    assert run.skipped == {"known": 1}
    assert run.alerts == ["evidence/cut.jpg", "evidence/sub/b.png"]
    flagged = {
        place for place, record in found.items()
        if isinstance(record, ImageRecord) and "on_alert_list" in [finding.kind for finding in record.findings]
    }  # fmt: skip
    assert flagged == {("evidence/sub/b.png", 0)}
    assert (run.settings["known_sha256"], run.settings["alert_sha256"]) == (known.sha256, alert.sha256)


def test_a_later_alert_list_reaches_what_is_recorded_already(scan: Scan, evidence: Path, tmp_path: Path) -> None:
    scan()
    alert = _list(tmp_path / "alert.txt", (evidence / "a.jpg").read_bytes())
    again = scan(alert=alert)
    assert again.counts.resumed == 6, "one of six images is computed again, and a failure is taken over"
    found = [RECORD.validate_json(line) for line in (tmp_path / "out" / "records.jsonl").read_text().splitlines()]
    last = [record for record in found if record.locator == "evidence/a.jpg"][-1]
    assert isinstance(last, ImageRecord)
    assert "on_alert_list" in [finding.kind for finding in last.findings]
    assert scan(alert=alert).counts.resumed == 7
    assert scan().counts.resumed == 7, "without a list what was said stays"


def test_results_of_other_libraries_are_named(scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    scan()
    assert not any("other libraries" in warning for warning in scan().warnings)
    monkeypatch.setattr(pipeline, "library_versions", lambda: {"pillow": "99.0", "numpy": version("numpy")})
    run = scan()
    (warning,) = [warning for warning in run.warnings if "other libraries" in warning]
    assert f"7 (pillow {version('pillow')}, now 99.0)" in warning


def test_a_list_of_paths_and_limits_that_change_nothing_resume(scan: Scan, evidence: Path, tmp_path: Path) -> None:
    first = scan(selection=Selection(exclude=("*.zip",)))
    assert first.counts.images == 2
    listed = scan(listed=(evidence / "a.jpg",), files_from="list.txt", decode_timeout=99.0)
    assert listed.counts.resumed == 2, "the failure depends on the limit and is tried again"
    assert listed.settings["files_from_paths"] == 1
    assert listed.evidence[-1] == "--files-from list.txt"


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_cut_picture_is_examined_as_far_as_it_goes(model: Path, tmp_path: Path, orientation: int) -> None:
    folder, out = tmp_path / "evidence", tmp_path / "out"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = orientation
    whole = jpeg(200, 160, exif=exif)
    (folder / "cut.jpg").write_bytes(whole[: len(whole) * 9 // 10])
    pipeline.scan([folder], out, ScanOptions(model=str(model), device="cpu", threshold=0.0, panels=True), SILENT)
    record = records(out)["evidence/cut.jpg", 0]
    assert isinstance(record, ImageRecord)
    assert (record.width, record.height) == ((200, 160) if orientation < 5 else (160, 200))
    (missing,) = record.not_examined
    first, last = missing.rows
    lost, box = 160 - first, missing.box
    assert last == 159
    assert (box.x, box.y, box.width, box.height) == {
        1: (0, first, 200, lost),
        3: (0, 0, 200, lost),
        6: (0, 0, lost, 200),
        8: (first, 0, lost, 200),
    }[orientation]
    statement = (
        f"The end of the file is missing: rows {first} to 159 of 160 could not be decoded and were not examined."
    )
    assert statement in [finding.statement for finding in record.findings]
    for path in (record.outputs.mask, record.outputs.heatmap):
        assert path is not None
        band = np.asarray(Image.open(out / path))
        assert band.shape == (record.height, record.width)
        assert not band[box.y : box.y + box.height, box.x : box.x + box.width].any()
    assert record.forged_area_ratio == np.count_nonzero(np.asarray(Image.open(out / record.outputs.mask))) / (
        200 * first
    )
    assert all(
        not (box.x <= region.box.x < box.x + box.width and box.y <= region.box.y < box.y + box.height)
        for region in record.regions
    )
    assert f",{first}-159," in (out / "summary.csv").read_text()
    assert "were not examined" in (out / "index.html").read_text()


def test_a_picture_of_which_too_little_is_left_is_inconclusive_for_that_reason(model: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "evidence", tmp_path / "out"
    folder.mkdir()
    whole = jpeg(200, 160)
    (folder / "cut.jpg").write_bytes(whole[: len(whole) * 4 // 10])
    pipeline.scan([folder], out, ScanOptions(model=str(model), device="cpu"), SILENT)
    record = records(out)["evidence/cut.jpg", 0]
    assert isinstance(record, ImageRecord)
    assert record.reason.startswith("too small: 200×")


def test_a_picture_whose_data_are_in_doubt_is_never_more_than_inconclusive(model: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "evidence", tmp_path / "out"
    folder.mkdir()
    whole = jpeg(200, 160, progressive=True)
    (folder / "cut.jpg").write_bytes(whole[: len(whole) * 7 // 10])
    pipeline.scan([folder], out, ScanOptions(model=str(model), device="cpu"), SILENT)
    record = records(out)["evidence/cut.jpg", 0]
    assert isinstance(record, ImageRecord)
    assert record.verdict == "inconclusive"
    assert "less precisely" in record.reason
    assert record.not_examined == []


def test_a_thumbnail_that_differs_is_shown_beside_the_picture(model: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "evidence", tmp_path / "out"
    folder.mkdir()
    cropped = PICTURE.crop((80, 60, 432, 324))
    (folder / "a.jpg").write_bytes(with_thumbnail(cropped, thumbnail(PICTURE.resize((160, 120))), orientation=6))
    (folder / "b.jpg").write_bytes(with_thumbnail(PICTURE, thumbnail(PICTURE.resize((160, 120)))))
    pipeline.scan([folder], out, ScanOptions(model=str(model), device="cpu"), SILENT)
    differs, same = (records(out)[f"evidence/{name}.jpg", 0] for name in "ab")
    assert isinstance(differs, ImageRecord)
    assert isinstance(same, ImageRecord)
    assert same.outputs.embedded_thumbnail is None
    assert differs.outputs.embedded_thumbnail is not None
    with Image.open(out / differs.outputs.embedded_thumbnail) as shown:
        assert shown.size == (120, 160)
    assert "embedded_thumbnail" in (out / "index.html").read_text()


def test_a_second_view_has_a_record_of_its_own(model: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "evidence", tmp_path / "out"
    folder.mkdir()
    (folder / "two.jpg").write_bytes(jpeg(96, 80) + jpeg(96, 80, quality=60))
    pipeline.scan([folder], out, ScanOptions(model=str(model), device="cpu"), SILENT)
    assert set(records(out)) == {("evidence/two.jpg", 0), ("evidence/two.jpg", 1)}
    first = [record.model_copy(update={"seconds": None, "run_id": ""}) for record in records(out).values()]
    pipeline.scan([folder], tmp_path / "again", ScanOptions(model=str(model), device="cpu"), SILENT)
    again = [
        record.model_copy(update={"seconds": None, "run_id": ""}) for record in records(tmp_path / "again").values()
    ]
    assert first == again


def test_copies_are_known_by_the_hash_that_a_scan_writes(model: Path, tmp_path: Path) -> None:
    """A photo in two archives, and saved again at half its size: one group."""
    photo = Image.fromarray(data.chelsea())
    (folder := tmp_path / "copies").mkdir()
    content = io.BytesIO()
    photo.save(content, "JPEG", quality=90)
    for name in ("one.zip", "two.zip"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr(f"{name}.jpg", content.getvalue())
    photo.resize((photo.width // 2, photo.height // 2)).save(folder / "small.jpg", quality=70)
    Image.new("RGB", (64, 64), (9, 90, 200)).save(folder / "flat.png")
    progress = Summary()
    pipeline.scan([folder], tmp_path / "out", ScanOptions(model=str(model), device="cpu"), progress)
    groups, found = Groups(), list(records(tmp_path / "out").values())
    for record in sorted(found, key=lambda record: record.locator):
        groups.add(record)
    assert [groups.of(index) for index in range(4)] == [None, 1, 1, 1]  # flat.png, one.zip, small.jpg, two.zip
    assert [copy.kind for index in (2, 3) if (copy := groups.copy(index))] == [Kind.NEAR, Kind.EXACT]
    assert progress.rows["copies"].startswith("1 group of copies (3 pictures)")


class Summary(Reporter):
    """Keeps the table at the end of a scan."""

    def summary(self, title: str, rows: Sequence[tuple[str, str, str]]) -> None:
        self.rows = {name: value for name, value, _ in rows}
