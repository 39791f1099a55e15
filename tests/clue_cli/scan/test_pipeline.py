"""The whole flow with a tiny model: every file ends in a record, whatever happens on the way."""

from __future__ import annotations

import io
import json
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clue_cli import __version__
from clue_cli.engine import flow
from clue_cli.errors import NothingToScanError, OutputError, UsageError, WeightsError
from clue_cli.networks import local
from clue_cli.networks.options import DType
from clue_cli.progress import ShownReporter
from clue_cli.records import RECORD, FailureCode, FailureRecord, ImageRecord, RunRecord
from clue_cli.scan import pipeline
from clue_cli.scan.assemble import uncalibrated
from clue_cli.scan.options import ScanOptions
from model.calibration import Calibration
from model.checkpoint import WEIGHTS_FILE, inspect
from model.images.pixels import displayed_view
from model.predictor import Predictor
from model.reporter import SILENT, Reporter
from model.tiling import tiles
from model.whole_file import earlier
from tests.clue_cli.evidence.test_thumbnail import PICTURE, thumbnail, with_thumbnail
from tests.faults.pictures import jpeg, oriented_jpeg, tiff
from tests.tiny_model import TINY, write_tiny_model

Scan = Callable[..., RunRecord]

FORMATS = [DType.FLOAT32, DType.BFLOAT16]
"""What is equal to the bit is so in each, whichever of them this machine would choose."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


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


def test_outputs_have_the_size_of_the_image_and_agree_with_the_record(scan: Scan, tmp_path: Path) -> None:
    scan()
    out = tmp_path / "out"
    for record in records(out).values():
        if not isinstance(record, ImageRecord):
            continue
        assert record.outputs.heatmap is not None
        mask = np.asarray(Image.open(out / record.outputs.mask))
        heatmap = np.asarray(Image.open(out / record.outputs.heatmap)) / 65535
        assert mask.shape == heatmap.shape == (record.height, record.width)
        assert set(np.unique(mask)) <= {0, 255}
        assert (mask > 0).mean() == pytest.approx(record.forged_area_ratio)
        assert RECORD.validate_json((out / record.outputs.verdict).read_text()) == record
        assert sum(r.area for r in record.regions) == (mask > 0).sum()
        assert record.tiles.count == len(tiles(record.height, record.width, TINY.tile))


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("options", [{"workers": 3}, {"heatmaps": False, "previews": False}])
def test_masks_do_not_depend_on_how_the_scan_was_run(
    scan: Scan, tmp_path: Path, options: dict[str, Any], dtype: DType
) -> None:
    scan("first", dtype=dtype)
    scan("second", dtype=dtype, **options)
    masks = sorted(p.relative_to(tmp_path / "first") for p in (tmp_path / "first" / "masks").rglob("*.png"))
    assert len(masks) == 6
    for mask in masks:
        assert (tmp_path / "first" / mask).read_bytes() == (tmp_path / "second" / mask).read_bytes()
    kept = (tmp_path / "second" / "heatmaps").exists()
    assert kept == options.get("heatmaps", True)


@pytest.mark.parametrize("dtype", FORMATS)
def test_the_network_sees_the_picture_as_stored_and_the_mask_is_as_displayed(
    scan: Scan, evidence: Path, tmp_path: Path, dtype: DType
) -> None:
    for orientation in range(1, 9):
        (evidence / f"{orientation}.jpg").write_bytes(oriented_jpeg(orientation))
    scan(dtype=dtype)
    out = tmp_path / "out"
    straight = np.asarray(Image.open(out / "heatmaps/evidence/1.jpg.png"))
    for orientation in range(2, 9):
        displayed = np.asarray(Image.open(out / f"heatmaps/evidence/{orientation}.jpg.png"))
        assert np.array_equal(displayed, displayed_view(straight, orientation)), orientation


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


def test_changed_content_is_computed_again(scan: Scan, evidence: Path, tmp_path: Path) -> None:
    scan()
    (evidence / "a.jpg").write_bytes(jpeg(96, 80, quality=30))
    run = scan()
    assert run.counts.resumed == 6
    (line,) = [r for r in records(tmp_path / "out").values() if r.locator == "evidence/a.jpg"]
    assert line.run_id == run.run_id


def test_the_threshold_of_the_command_line_is_used_and_recorded(scan: Scan, tmp_path: Path) -> None:
    scan(threshold=0.0)
    for record in records(tmp_path / "out").values():
        if isinstance(record, ImageRecord):
            assert record.threshold == 0.0
            assert record.forged_area_ratio == 1.0


def test_stop_leaves_a_valid_folder_and_the_next_run_completes_it(scan: Scan, tmp_path: Path) -> None:
    stop = threading.Event()

    class StopAtFirst(Reporter):
        def result(self, record: object) -> None:
            if isinstance(record, ImageRecord):
                stop.set()

    run = scan(progress=StopAtFirst(), stop=stop)
    assert run.status == "interrupted"
    assert run.exit_code == 130
    assert (tmp_path / "out" / "index.html").exists()
    done = run.counts.images
    assert done >= 1
    again = scan()
    assert again.status == "finished"
    assert again.counts.images == 6
    assert len(records(tmp_path / "out")) == 7


def test_an_image_that_does_not_fit_memory_is_recorded_and_the_rest_goes_on(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = Predictor.compute

    def starved(self: Predictor, jobs: list[Any], *rest: Any) -> Any:
        if jobs[0][0].pixels.shape == (100, 150, 3):
            raise MemoryError("no more")
        return compute(self, jobs, *rest)

    monkeypatch.setattr(Predictor, "compute", starved)
    run = scan()
    record = records(tmp_path / "out")["evidence/sub/b.png", 0]
    assert isinstance(record, FailureRecord)
    assert record.code is FailureCode.OUT_OF_MEMORY
    assert run.counts.images == 5


def test_out_of_memory_while_writing_costs_one_image(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = pipeline.judge

    def starved(pixels: NDArray[np.uint8], *others: Any) -> Any:
        if pixels.shape == (100, 150, 3):
            raise MemoryError
        return judge(pixels, *others)

    monkeypatch.setattr(pipeline, "judge", starved)
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
    sha256_file = pipeline.sha256_file

    def unreadable(path: Path) -> str:
        if path.suffix == ".zip":
            raise OSError(5, "Input/output error")
        return sha256_file(path)

    monkeypatch.setattr(pipeline, "sha256_file", unreadable)
    run = scan()
    assert run.evidence_unchanged is None
    assert any("could not be hashed" in warning for warning in run.warnings)


def test_a_heatmap_that_is_not_finite_is_no_verdict(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*of_one: object) -> None:
        raise ValueError("the heatmap holds values that are not finite")

    monkeypatch.setattr(pipeline, "judge", broken)
    run = scan()
    assert run.counts.images == 0
    assert {r.code for r in records(tmp_path / "out").values() if isinstance(r, FailureRecord)} == {
        FailureCode.NOT_FINITE,
        FailureCode.CORRUPT_IMAGE,
    }


@pytest.mark.parametrize("name", ["a.jpg", "case.zip"])
def test_evidence_that_changes_meanwhile_is_told(
    scan: Scan, evidence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    decode = pipeline.DecodePool.decode

    def tamper(self: Any, *args: Any) -> Iterator[Any]:
        with (evidence / name).open("ab") as file:
            file.write(b"\0")
        yield from decode(self, *args)

    monkeypatch.setattr(pipeline.DecodePool, "decode", tamper)
    run = scan()
    assert run.evidence_unchanged is False
    changed = [
        r
        for r in records(tmp_path / "out").values()
        if isinstance(r, FailureRecord) and r.code is FailureCode.CHANGED_DURING_SCAN
    ]
    assert [r.locator for r in changed] == [f"evidence/{name}"]
    assert any(name in warning for warning in run.warnings)


@pytest.mark.parametrize("step", ["read_item", "judge"])
def test_a_defect_in_any_thread_ends_the_run_and_says_so(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def defect(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(pipeline, step, defect)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        scan()
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "failed"


def test_a_full_disk_ends_the_run_with_an_output_error(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("clue_cli.results.scan_store.write_mask", full)
    with pytest.raises(OutputError, match="No space left"):
        scan()
    ended = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (ended["status"], ended["exit_code"]) == ("failed", 5)
    # What could not be written is not in the log: the next run computes it.
    monkeypatch.undo()
    assert scan().counts.images == 6


def test_a_page_that_cannot_be_written_is_a_failed_run(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pipeline, "write_report", full)
    with pytest.raises(OutputError, match="No space left"):
        scan()
    ended = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (ended["status"], ended["exit_code"]) == ("failed", 5)


def test_a_second_signal_is_an_interruption(scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "load_predictor", interrupted)
    with pytest.raises(KeyboardInterrupt):
        scan()
    ended = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (ended["status"], ended["exit_code"], ended["evidence_unchanged"]) == ("interrupted", 130, None)


def test_memory_between_the_steps_is_bounded(scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "PIXEL_BUDGET", 1)  # every image is larger: one at a time
    alive: list[int] = []
    most = []

    class Counting(flow.Budget):
        def acquire(self, size: int) -> None:
            super().acquire(size)
            alive.append(size)
            most.append(len(alive))

        def release(self, size: int) -> None:
            alive.remove(size)
            super().release(size)

    monkeypatch.setattr(flow, "Budget", Counting)
    assert scan().counts.images == 6
    assert max(most) == 1
    assert alive == []


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"model": "nowhere"}, WeightsError),
        ({"device": "cuda:77"}, UsageError),
    ],
)
def test_wrong_options_fail_before_anything_is_written(
    evidence: Path, model: Path, tmp_path: Path, change: dict[str, str], error: type[Exception]
) -> None:
    options = ScanOptions(**({"model": str(model), "device": "cpu"} | change))  # type: ignore[arg-type]
    with pytest.raises(error):
        pipeline.scan([evidence], tmp_path / "out", options, SILENT)
    assert not (tmp_path / "out").exists()


def test_a_missing_path_fails_before_anything_is_written(model: Path, tmp_path: Path) -> None:
    with pytest.raises(NothingToScanError):
        pipeline.scan([tmp_path / "nowhere"], tmp_path / "out", ScanOptions(model=str(model)), SILENT)
    assert not (tmp_path / "out").exists()


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
