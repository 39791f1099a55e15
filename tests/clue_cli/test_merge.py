"""`clue merge`: shards together are one scan; nothing is lost, doubled or believed without a look."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from clue_cli.app import run as clue
from clue_cli.errors import ExitCode, NothingToScanError, OutputError, UsageError
from clue_cli.evidence.shard import Shard
from clue_cli.merge import merge
from clue_cli.merge_apart import merge_apart
from clue_cli.records import (
    Counts,
    ErrorRates,
    FailureCode,
    FailureRecord,
    ImageRecord,
    Question,
    RunRecord,
    Verdict,
)
from clue_cli.results import merging
from clue_cli.results.explanations import EXPLANATIONS, Explanation, ExplanationLog, record_digest
from clue_cli.results.folder import ResultsFolder
from clue_cli.results.reader import ResultsReader, read_run
from clue_cli.results.scan_store import ResultStore
from clue_cli.scan import ScanOptions, pipeline
from clue_cli.scan.run_log import counted_as
from model.reporter import SILENT
from tests.clue_cli.results import made
from tests.clue_cli.results.made import OTHER_SHA, failure, identity, image, put
from tests.faults.archives import zip_of
from tests.faults.pictures import jpeg, tiff

Record = ImageRecord | FailureRecord


# ------------------------------------------------------------------------------------------------ made results folders


def results(folder: Path, *records: Record, status: Any = "finished", **changes: Any) -> Path:
    """A results folder with these records; `changes` of its run."""
    options = ScanOptions(threshold=changes.pop("threshold", None))
    shard = changes.pop("shard", None)
    with ResultStore(folder) as store:
        stamp = options.stamp(made.MODEL, "float32")
        settings = {**options.settings(), **({"shard": shard} if shard else {}), **changes.pop("listing", {})}
        model = changes.pop("model", {"name": "mini", "digest": made.MODEL, "dtype": "float32"})
        run = made.run(settings=settings, model=model, **changes)
        store.begin(run, stamp)
        counts = Counter(name for record in records for name in counted_as(record))
        for record in records:
            put(store, record) if isinstance(record, ImageRecord) else store.write_failure(record)
        if status != "running":
            store.finish(run.model_copy(update={"status": status, "counts": Counts(**counts)}))
    return folder


def joined(out: Path, *folders: Path) -> RunRecord:
    return merge(folders, out, SILENT, ("clue", "merge"))


def read(folder: Path) -> RunRecord:
    run = read_run(folder / "run.json")
    assert run is not None
    return run


def explanation_of(record: ImageRecord) -> Explanation:
    return Explanation(
        record=record_digest(record),
        locator=record.locator,
        page=0,
        sha256=record.file.sha256,
        settings_digest=record.settings_digest,
        status="accepted",
        text="The verdict is forged.",
        model="m",
        model_digest=made.MODEL,
        request_sha256=made.SHA,
        generation={},
        version="1",
        made="2026-01-01T00:00:00+00:00",
        seconds=1.0,
    )


def records(folder: Path) -> dict[tuple[str, int | None], Record]:
    with ResultsReader(folder) as reader:
        found = list(reader.records())
    keys = [(record.locator, record.page) for record in found]
    assert len(keys) == len(set(keys))
    return dict(zip(keys, found, strict=True))


def words(run: RunRecord) -> str:
    return " ".join(run.warnings)


def test_pictures_are_links_and_records_keep_their_runs(tmp_path: Path) -> None:
    one = results(tmp_path / "1", image("e/a.jpg", 0, 2), image("e/a.jpg", 1, 2), failure("e/b.jpg"))
    two = results(tmp_path / "2", image("e/c.jpg", file=identity(OTHER_SHA)))
    run = joined(tmp_path / "out", one, two)
    assert records(tmp_path / "out") == records(one) | records(two)
    ids = {record.run_id for record in records(tmp_path / "out").values()}
    assert {path.stem for path in (tmp_path / "out" / "runs").iterdir()} == ids
    for (locator, page), record in records(tmp_path / "out").items():
        if isinstance(record, ImageRecord):
            source = one if locator == "e/a.jpg" else two
            for _, name in record.outputs:
                assert name is None or (tmp_path / "out" / name).samefile(source / name), (locator, page)
    assert (run.counts.images, run.counts.failures, run.counts.resumed, run.counts.not_met) == (3, 1, 0, 0)
    assert run.exit_code == ExitCode.SOME_FAILED  # a failure, as of a scan
    assert run.warnings == []


def test_the_summary_says_what_was_not_asked_and_not_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = results(tmp_path / "a", image("x"), not_opened={"video": 2})
    assert clue(["merge", str(a), "--out", str(tmp_path / "m")]) == ExitCode.OK
    said = capsys.readouterr().err
    assert "no evidence of an edited region" in said and "was not asked" in said
    assert "NOT EXAMINED: 2 video" in said
    assert "  x: forged (0.75)" in said


def test_error_rates_and_the_first_pictures_go_with_a_merge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rates = {Question.LOCALIZATION: ErrorRates(model_digest="c" * 64)}
    a = results(tmp_path / "a", image("x"), error_rates=rates)
    b = results(tmp_path / "b", image("y", score=0.8, file=identity("b" * 64)), error_rates=rates)
    for words in ([], ["--apart"]):
        assert clue(["merge", str(a), str(b), *words, "--out", str(tmp_path / f"m{len(words)}")]) == ExitCode.OK
        said = capsys.readouterr().err
        assert said.index("  y: forged (0.80)") < said.index("  x: forged (0.75)")
    run = read_run(tmp_path / "m0" / "run.json")
    assert run is not None and run.error_rates == rates


def test_other_file_systems_get_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    one = results(tmp_path / "1", image("e/a.jpg"))
    monkeypatch.setattr(os, "link", refuse)
    assert joined(tmp_path / "out", one).warnings == []
    assert made.files(tmp_path / "out") >= made.files(one) - {".clue.lock"}


def test_merging_again_changes_nothing(tmp_path: Path) -> None:
    folders = [results(tmp_path / name, image(f"e/{name}.jpg"), not_pictures_by_type={"txt": 2}) for name in "ab"]
    first = joined(tmp_path / "out", *folders)
    log = (tmp_path / "out" / "records.jsonl").read_bytes()
    second = joined(tmp_path / "out", *folders, tmp_path / "out")
    assert (tmp_path / "out" / "records.jsonl").read_bytes() == log
    passing = {"run_id", "finished"}
    assert second.model_dump(exclude=passing) == first.model_dump(exclude=passing)
    # A merge of a merge, and of a folder that is in it, too.
    third = joined(tmp_path / "more", tmp_path / "out", folders[0])
    assert records(tmp_path / "more") == records(tmp_path / "out")
    assert third.not_pictures_by_type == {"txt": 4}


def test_the_same_files_in_two_folders_count_once(tmp_path: Path) -> None:
    killed = results(tmp_path / "1", image("e/a.jpg"), image("e/t.tif", 0, 2), status="running", shard="1/1")
    whole = results(tmp_path / "2", image("e/a.jpg"), image("e/t.tif", 0, 2), image("e/t.tif", 1, 2), shard="1/1")
    for number, order in enumerate([(killed, whole), (whole, killed)]):
        run = joined(tmp_path / f"out{number}", *order)
        assert said(tmp_path / f"out{number}") == said(whole)
        assert (run.counts.images, run.status, run.warnings) == (3, "finished", [])


def test_an_answer_is_kept_rather_than_a_failure(tmp_path: Path) -> None:
    failed = results(
        tmp_path / "1", failure("e/a.jpg", code=FailureCode.DECODER_TIMEOUT), failure("e/b.jpg", file=None)
    )
    answered = results(tmp_path / "2", image("e/a.jpg"), image("e/b.jpg"))
    for number, order in enumerate([(failed, answered), (answered, failed)]):
        joined(tmp_path / f"out{number}", *order)
        assert records(tmp_path / f"out{number}") == records(answered)


def test_conflicts_are_told_and_both_kept(tmp_path: Path) -> None:
    one = results(tmp_path / "1", image("e/a.jpg"), failure("e/x.zip", file=None, code=FailureCode.ARCHIVE_CORRUPT))
    two = results(
        tmp_path / "2",
        image("e/a.jpg", file=identity(OTHER_SHA), verdict=Verdict.INCONCLUSIVE),
        failure("e/x.zip", file=None, code=FailureCode.ARCHIVE_ENCRYPTED),
    )
    for _ in range(2):  # and again into the same folder
        run = joined(tmp_path / "out", one, two)
        found = records(tmp_path / "out")
        assert set(found) == {("e/a.jpg", 0), ("e/a.jpg~2", 0), ("e/x.zip", None), ("e/x.zip~2", None)}
        second = found["e/a.jpg~2", 0]
        assert isinstance(second, ImageRecord)
        assert second.file.sha256 == OTHER_SHA
        assert json.loads((tmp_path / "out" / second.outputs.verdict).read_bytes())["locator"] == "e/a.jpg~2"
        assert all((tmp_path / "out" / name).is_file() for _, name in second.outputs if name)
        assert "2, such as e/a.jpg (kept as e/a.jpg~2)" in words(run)
        assert run.exit_code == ExitCode.SOME_FAILED


def test_other_answers_about_the_same_content_are_told(tmp_path: Path) -> None:
    one = results(tmp_path / "1", image("e/a.jpg", score=0.75))
    two = results(tmp_path / "2", image("e/a.jpg", score=0.8))
    for order in ((one, two), (two, one)):
        out = tmp_path / order[0].name / ".." / f"out{order[0].name}"
        assert "1, such as e/a.jpg" in words(joined(out, *order))
        assert records(out) == records(two)  # of the latest run


def test_names_that_a_file_system_may_confuse(tmp_path: Path) -> None:
    one, two = results(tmp_path / "1", image("e/A.jpg")), results(tmp_path / "2", image("e/a.jpg"))
    joined(tmp_path / "out", one, two)
    masks = {record.outputs.mask.casefold() for record in records(tmp_path / "out").values() if record.kind == "image"}
    assert len(masks) == 2
    assert all((tmp_path / "out" / record.outputs.mask).is_file() for record in records(tmp_path / "out").values())  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "locator", ["../../../tmp/x.jpg", "/etc/passwd", "e/\x1b[2J.jpg", "e/" + "n" * 400, "e/a~2", "CON"]
)
def test_hostile_locators_stay_in_the_folder(locator: str, tmp_path: Path) -> None:
    one = results(tmp_path / "1", image(locator))
    before = made.files(tmp_path)
    joined(tmp_path / "out", one)
    assert all(name.startswith("out/") for name in made.files(tmp_path) - before)
    assert set(records(tmp_path / "out")) == {(locator, 0)}


@pytest.mark.parametrize(
    "name", ["../secret.png", "run.json", "masks/../../secret.png", "masks/link.png", "out/m.png", "masks/dir/m.png"]
)
def test_a_record_cannot_fetch_other_files(name: str, tmp_path: Path) -> None:
    one = results(tmp_path / "1", image("e/a.jpg"))
    (record,) = records(one).values()
    assert isinstance(record, ImageRecord)
    mask = (one / record.outputs.mask).read_bytes()
    (tmp_path / "secret.png").write_bytes(mask)
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "m.png").write_bytes(mask)
    (one / "masks" / "link.png").symlink_to(tmp_path / "secret.png")
    (one / "masks" / "dir").symlink_to(tmp_path / "dir")
    log = one / "records.jsonl"
    log.write_text(log.read_text().replace(record.outputs.mask, name))
    run = joined(tmp_path / "out", one)
    assert "names those of another image: 1, such as e/a.jpg (mask)" in words(run)
    assert not list((tmp_path / "out" / "masks").rglob("*.png"))
    assert len(records(tmp_path / "out")) == 1  # what was found is not lost


def test_damage_is_told(tmp_path: Path) -> None:
    one = results(tmp_path / "1", image("e/a.jpg"), image("e/b.jpg"), image("e/c.jpg"))
    found = records(one)
    for key, content in ((("e/a.jpg", 0), b""), (("e/b.jpg", 0), b"no PNG at all, but long enough")):
        record = found[key]
        assert isinstance(record, ImageRecord)
        (one / record.outputs.mask).write_bytes(content)
    with (one / "records.jsonl").open("ab") as log:
        log.write(b"{damaged}\n")
    run = joined(tmp_path / "out", one)
    assert "such as e/a.jpg (mask)" in words(run)
    assert "not the size of their image: 1, such as e/b.jpg (mask)" in words(run)
    assert "1 damaged line of" in words(run)
    assert run.counts.images == 3


class TestRefusals:
    def test_other_settings(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        one, two = results(tmp_path / "1", image("a")), results(tmp_path / "2", image("b"), threshold=0.25)
        assert clue(["merge", str(one), str(two), "--out", str(tmp_path / "out")]) == ExitCode.BAD_USAGE
        said = capsys.readouterr().err
        assert str(one) in said.replace("\n", "")
        assert str(two) in said.replace("\n", "")
        assert "threshold None and 0.25" in " ".join(said.split())
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("first", "second", "expected"),
        [
            ({"shard": "1/2"}, {"shard": "2/3"}, "of 2 and of 3 shards"),
            (
                {"shard": "1/2", "evidence": ["x/a", "x/b"]},
                {"shard": "2/2", "evidence": ["y/a", "y/c"]},
                "different paths",
            ),
            ({"shard": "1/2", "evidence": ["x"]}, {"shard": "2/2", "evidence": ["x", "y"]}, "different paths"),
        ],
    )
    def test_shards_of_other_scans(self, first: Any, second: Any, expected: str, tmp_path: Path) -> None:
        folders = results(tmp_path / "1", image("a"), **first), results(tmp_path / "2", image("b"), **second)
        with pytest.raises(UsageError, match=expected):
            joined(tmp_path / "out", *folders)

    def test_what_is_no_results_folder(self, tmp_path: Path) -> None:
        one = results(tmp_path / "1", image("a"))
        (empty := tmp_path / "empty").mkdir()
        with pytest.raises(NothingToScanError, match="no results"):
            joined(tmp_path / "out", one, empty)
        (one / "run.json").write_text("{")
        with pytest.raises(NothingToScanError, match="missing or damaged"):
            joined(tmp_path / "out", one)

    def test_an_out_that_is_something_else(self, tmp_path: Path) -> None:
        one, two = results(tmp_path / "1", image("a")), results(tmp_path / "2", image("b"))
        with pytest.raises(OutputError, match="results of a scan"):
            joined(two, one)
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "x").touch()
        with pytest.raises(OutputError, match="something else"):
            joined(tmp_path / "full", one)
        with pytest.raises(UsageError, match="one lies in the other"):
            joined(one / "out", one)


def test_missing_shards_and_unfinished_scans_are_told_until_they_come(tmp_path: Path) -> None:
    one = results(tmp_path / "1", image("e/a.jpg"), shard="1/3", skipped={"hidden": 1})
    killed = results(tmp_path / "2", image("e/b.jpg"), shard="2/3", status="running")
    run = joined(tmp_path / "out", one, killed)
    assert run.status == "interrupted"
    assert run.settings["shard"] == "all of 3 but shard 3/3"
    assert "there are no results of shard 3/3" in words(run)
    assert f"the scan in {killed} did not finish" in words(run)
    results(killed, image("e/b2.jpg"), shard="2/3", skipped={"hidden": 4})
    three = results(tmp_path / "3", shard="3/3")
    run = joined(tmp_path / "out", killed, three)
    assert (run.status, run.exit_code, run.counts.images) == ("finished", ExitCode.OK, 3)
    assert "shard" not in run.settings
    assert run.skipped == {"hidden": 5}
    assert not any("not merged" in warning or "Not everything" in warning for warning in run.warnings)


def test_shards_that_saw_other_files(tmp_path: Path) -> None:
    def shard(number: int, path: str, files: int | None) -> Path:
        listing = {} if files is None else {"listed_files": files, "listing_digest": f"{files:032x}"}
        folder = tmp_path / f"{number}{path.replace('/', '_')}{files}"
        return results(folder, image(f"e/{number}.jpg"), shard=f"{number}/2", evidence=[path], listing=listing)

    run = joined(tmp_path / "out", shard(1, "/mnt/disk", 9), shard(2, "/media/usb", 9))
    assert (run.status, run.warnings) == ("finished", [])
    assert not {"listed_files", "listing_digest"} & set(run.settings)
    run = joined(tmp_path / "changed", shard(1, "a/case", 9), shard(2, "b/case", 8))
    assert "listed 9 files and shard 2/2" in words(run)
    assert run.exit_code == ExitCode.SOME_FAILED
    with pytest.raises(UsageError, match="different paths"):
        joined(tmp_path / "other", shard(1, "caseA", 9), shard(2, "caseB", 8))
    joined(tmp_path / "unknown", shard(1, "caseA", 9), shard(2, "caseB", None))


def test_explanations_come_along_once(tmp_path: Path) -> None:
    one = results(tmp_path / "1", image("e/a.jpg"))
    (record,) = records(one).values()
    assert isinstance(record, ImageRecord)
    explanation = explanation_of(record)
    with ExplanationLog(one / EXPLANATIONS) as log:
        log.append(explanation)
    for _ in range(2):
        joined(tmp_path / "out", one)
    with ExplanationLog(tmp_path / "out" / EXPLANATIONS, read_only=True) as log:
        assert list(log.entries()) == [explanation]
        (taken,) = records(tmp_path / "out").values()
        assert isinstance(taken, ImageRecord)
        assert log.accepted(taken) == [explanation]


def test_what_a_scan_did_not_meet_is_kept_and_not_counted(tmp_path: Path) -> None:
    one = results(tmp_path / "1", image("e/gone.jpg"))
    results(one, image("e/a.jpg"))
    two = results(tmp_path / "2", image("e/b.jpg"))
    for out, folders in (("out", (one, two)), ("more", (tmp_path / "out",))):
        run = joined(tmp_path / out, *folders)
        assert (run.counts.images, run.counts.not_met) == (2, 1)
        assert len(records(tmp_path / out)) == 3


@pytest.mark.parametrize("calls", [0, 1, 9, 17])
def test_a_merge_that_was_cut_short_goes_on(calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [image("e/t.tif", page, 3) for page in range(3)]
    one, two = results(tmp_path / "1", *pages, image("e/a.jpg")), results(tmp_path / "2", image("e/b.jpg"))
    done: list[str] = []
    real = ResultsFolder.link

    def link(self: ResultsFolder, source: Path, relative: str) -> None:
        if len(done) == calls:
            raise OutputError("The disk is full.")
        done.append(relative)
        real(self, source, relative)

    with monkeypatch.context() as context:
        context.setattr(ResultsFolder, "link", link)
        with pytest.raises(OutputError):
            joined(tmp_path / "out", one, two)
    run = joined(tmp_path / "out", one, two)
    assert records(tmp_path / "out") == records(one) | records(two)
    assert (run.status, run.counts.images, run.warnings) == ("finished", 5, [])
    assert all((tmp_path / "out" / name).is_file() for name in made.files(one) if name.startswith("masks/"))


def test_a_merge_that_is_stopped_says_so(tmp_path: Path) -> None:
    one = results(tmp_path / "1", image("e/a.jpg"), image("e/b.jpg"))
    (stop := threading.Event()).set()
    run = merge([one], tmp_path / "out", SILENT, (), stop)
    assert run.exit_code == ExitCode.INTERRUPTED
    assert len(records(tmp_path / "out")) == 1
    joined(tmp_path / "out", one)
    assert records(tmp_path / "out") == records(one)


def test_memory_stays_flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pictures of 20,000 records are not made: only what is said of them passes."""
    line = results(tmp_path / "small", image("e/00000000.jpg")) / "records.jsonl"
    text = line.read_text()

    def folder(name: str, numbers: range) -> Path:
        made_there = results(tmp_path / name)
        with (made_there / "records.jsonl").open("w") as log:
            log.writelines(text.replace("00000000", f"{number:08}") for number in numbers)
        return made_there

    monkeypatch.setattr(merging, "picture_in", lambda *_: None)
    monkeypatch.setattr("clue_cli.merge.write_report", lambda *_: None)  # has its own test
    own, sizes = psutil.Process(), []
    for count in (1000, 20_000):
        folders = [folder(f"{count}.{part}", range(part, count, 2)) for part in (0, 1)]
        assert joined(tmp_path / f"out{count}", *folders).counts.images == count
        sizes.append(own.memory_info().rss)
    log_size = (tmp_path / "out20000" / "records.jsonl").stat().st_size
    assert sizes[1] - sizes[0] < min(log_size // 2, 16 << 20)


class TestNothingIsLostOrDoubled:
    def test_an_answer_after_a_failure_counts_once(self, tmp_path: Path) -> None:
        failed = results(tmp_path / "1", failure("e/a.jpg", code=FailureCode.DECODER_TIMEOUT))
        answered = results(tmp_path / "2", image("e/a.jpg"))
        for number, order in enumerate([(failed, answered), (answered, failed)]):
            run = joined(tmp_path / f"out{number}", *order)
            assert (run.counts.images, run.counts.failures) == (1, 0)
            assert len((tmp_path / f"out{number}" / "summary.csv").read_text().splitlines()) == 2
            assert "Different answers" not in words(run)

    def test_pages_do_not_give_way_to_a_failure(self, tmp_path: Path) -> None:
        pages = results(tmp_path / "1", image("e/t.tif", 0, 3), image("e/t.tif", 1, 3), status="running")
        failed = results(tmp_path / "2", failure("e/t.tif", code=FailureCode.DECODER_CRASHED))
        for number, order in enumerate([(pages, failed), (failed, pages)]):
            joined(tmp_path / f"out{number}", *order)
            assert records(tmp_path / f"out{number}") == records(pages)

    def test_a_missing_picture_does_not_cost_the_record(self, tmp_path: Path) -> None:
        answered = results(tmp_path / "1", image("e/a.jpg"))
        failed = results(tmp_path / "2", failure("e/a.jpg", code=FailureCode.DECODER_TIMEOUT))
        whole = results(tmp_path / "3", image("e/a.jpg"))
        (record,) = records(answered).values()
        assert isinstance(record, ImageRecord)
        (answered / record.outputs.mask).unlink()
        assert "1, such as e/a.jpg (mask)" in words(joined(tmp_path / "out", answered, failed))
        assert records(tmp_path / "out") == records(answered)
        size = (tmp_path / "out" / "records.jsonl").stat().st_size
        joined(tmp_path / "out", answered, failed)
        assert (tmp_path / "out" / "records.jsonl").stat().st_size == size  # nothing to be gained
        joined(tmp_path / "out", whole)
        assert (tmp_path / "out" / record.outputs.mask).is_file()

    def test_what_a_resumed_scan_took_over_counts_although_it_left_others(self, tmp_path: Path) -> None:
        one = tmp_path / "1"
        results(one, image("=a.jpg"), image("e/gone.jpg"), image("e/z.jpg"))
        with ResultStore(one) as store:
            run = made.run(model={"digest": made.MODEL}, counts=Counts(images=2, forged=2, resumed=2))
            store.begin(run, ScanOptions().stamp(made.MODEL, "float32"))
            for locator in ("=a.jpg", "e/z.jpg"):
                assert store.resume().lookup(locator, made.SHA)
            store.finish(run.model_copy(update={"status": "finished"}))
        for out, source in (("out", one), ("more", tmp_path / "out")):
            run = joined(tmp_path / out, source)
            assert (run.counts.images, run.counts.not_met, run.warnings) == (2, 1, [])

    def test_a_shard_that_was_killed_and_repeated_before_another_in_the_same_folder(self, tmp_path: Path) -> None:
        one = results(tmp_path / "1", image("e/a.jpg"), shard="1/2", status="running")
        results(one, image("e/b.jpg"), shard="1/2")
        results(one, image("e/c.jpg"), shard="2/2")
        assert joined(tmp_path / "out", one).counts.images == 3

    def test_a_merge_that_was_cut_short_and_not_repeated(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        a, b, c = (results(tmp_path / name, image(f"e/{name}.jpg"), image(f"e/{name}2.jpg")) for name in "abc")
        joined(tmp_path / "out", a)
        (stop := threading.Event()).set()
        assert merge([b], tmp_path / "out", SILENT, (), stop).status == "interrupted"
        run = joined(tmp_path / "out", c)
        assert (run.counts.images, run.counts.not_met) == (4, 1)
        assert "An earlier merge" in words(run)
        assert "1 record there of folders that were not merged again" in words(run)
        assert len(records(tmp_path / "out")) == 5
        run = joined(tmp_path / "out", b)
        assert (run.counts.images, run.counts.not_met) == (6, 0)
        with monkeypatch.context() as context:
            context.setattr(ResultStore, "finish", lambda *_: (_ for _ in ()).throw(OutputError("The disk is full.")))
            with pytest.raises(OutputError):
                joined(tmp_path / "new", a)
        with pytest.raises(NothingToScanError, match=r"The merge in .*new did not finish"):
            joined(tmp_path / "more", tmp_path / "new", c)

    def test_a_file_that_one_scan_met_stays_met(self, tmp_path: Path) -> None:
        one = results(tmp_path / "1", image("e/a.jpg", score=0.7))
        two = results(tmp_path / "2", image("e/a.jpg", score=0.8))
        results(two, image("e/b.jpg"))  # did not meet a.jpg, whose record is the later one
        for number, order in enumerate([(one, two), (two, one)]):
            assert (joined(tmp_path / f"o{number}", *order).counts.not_met) == 0
            assert records(tmp_path / f"o{number}") == records(two)

    def test_a_scan_into_a_merge_keeps_its_run(self, tmp_path: Path) -> None:
        a, b = results(tmp_path / "a", image("e/a.jpg")), results(tmp_path / "b", image("e/b.jpg"))
        joined(tmp_path / "out", a)
        results(tmp_path / "out", image("e/new.jpg"))
        joined(tmp_path / "out", b)
        run = joined(tmp_path / "more", tmp_path / "out")
        assert (run.counts.images, run.counts.not_met) == (2, 1)
        ids = {record.run_id for record in records(tmp_path / "more").values()}
        assert {path.stem for path in (tmp_path / "more" / "runs").iterdir()} == ids

    def test_explanations_follow_a_record_that_is_renamed(self, tmp_path: Path) -> None:
        one, two = (
            results(tmp_path / "1", image("e/a.jpg")),
            results(tmp_path / "2", image("e/a.jpg", file=identity(OTHER_SHA))),
        )
        (record,) = records(two).values()
        assert isinstance(record, ImageRecord)
        with ExplanationLog(two / EXPLANATIONS) as log:
            log.append(explanation_of(record))
        for _ in range(2):
            joined(tmp_path / "out", one, two)
            with ExplanationLog(tmp_path / "out" / EXPLANATIONS, read_only=True) as log:
                taken = records(tmp_path / "out")["e/a.jpg~2", 0]
                assert isinstance(taken, ImageRecord)
                assert [one.locator for one in log.accepted(taken)] == [taken.locator]
                assert len(list(log.entries())) == 1


class TestADoctoredFolder:
    def test_verdict_files_say_what_the_records_say(self, tmp_path: Path) -> None:
        one = results(tmp_path / "1", image("e/a.jpg", verdict=Verdict.NO_EVIDENCE), image("e/b.jpg"))
        first, second = (record for record in records(one).values() if isinstance(record, ImageRecord))
        lying = first.model_copy(update={"verdicts": second.verdicts})
        (one / first.outputs.verdict).write_text(lying.model_dump_json())
        run = joined(tmp_path / "out", one)
        assert "something else than the record, written again from the record: 1, such as e/a.jpg" in words(run)
        for record in (first, second):
            assert ImageRecord.model_validate_json((tmp_path / "out" / record.outputs.verdict).read_bytes()) == record

    @pytest.mark.parametrize("cut", ["mask", "heatmap", "preview", "outline"])
    def test_cut_pictures_are_found(self, cut: str, tmp_path: Path) -> None:
        one = results(tmp_path / "1", image("e/a.jpg"))
        (record,) = records(one).values()
        path = one / getattr(record.outputs, cut)  # type: ignore[union-attr]
        content = path.read_bytes()
        for number, damaged in enumerate((content[:-1], content[: len(content) // 2], content[:-16] + bytes(16))):
            path.unlink()
            path.write_bytes(damaged)
            run = joined(tmp_path / f"out{number}", one)
            assert f"are damaged, or have not the size of their image: 1, such as e/a.jpg ({cut})" in words(run)
            assert run.exit_code == ExitCode.SOME_FAILED

    def test_the_picture_of_another_image(self, tmp_path: Path) -> None:
        one = results(tmp_path / "1", image("e/a.jpg"), image("e/b.jpg"))
        log = one / "records.jsonl"
        log.write_text(log.read_text().replace('"masks/e/a.jpg.png"', '"masks/e/b.jpg.png"'))
        run = joined(tmp_path / "out", one)
        assert "the record names those of another image: 1, such as e/a.jpg (mask)" in words(run)
        assert not (tmp_path / "out" / "masks" / "e" / "a.jpg.png").exists()

    @pytest.mark.parametrize("own", ["file", "folder"])
    def test_links_to_pictures_elsewhere(self, own: str, tmp_path: Path) -> None:
        one = results(tmp_path / "1", image("e/a.jpg"))
        place = one / "masks" / "e" / ("a.jpg.png" if own == "file" else "")
        place.rename(tmp_path / "elsewhere")
        place.symlink_to(tmp_path / "elsewhere")
        assert "names them: 1, such as e/a.jpg (mask)" in words(joined(tmp_path / "out", one))

    @pytest.mark.parametrize("name", ["records.jsonl", "run.json", "summary.csv", "runs", "explanations.jsonl"])
    def test_links_in_the_place_of_what_is_read(self, name: str, tmp_path: Path) -> None:
        one = results(tmp_path / "1", image("e/a.jpg"))
        if (one / name).exists():
            (one / name).rename(tmp_path / name)
        (one / name).symlink_to(tmp_path / name)
        with pytest.raises(NothingToScanError, match="is a symbolic link"):
            joined(tmp_path / "out", one)
        assert not (tmp_path / "out").exists()

    def test_lines_that_are_gone_or_more_than_counted(self, tmp_path: Path) -> None:
        one = results(tmp_path / "1", image("e/a.jpg"), image("e/b.jpg", verdict=Verdict.NO_EVIDENCE), failure("e/c"))
        log = one / "records.jsonl"
        lines = log.read_text().splitlines(keepends=True)
        log.write_text("".join(lines[1:]))
        assert "images 1 of 2, forged 0 of 1. Lines were lost" in words(joined(tmp_path / "out", one))
        log.write_text("".join([*lines, lines[0].replace("e/a.jpg", "e/z.jpg")]))
        assert "images 3 of 2, forged 2 of 1. Lines were lost" in words(joined(tmp_path / "more", one))
        log.unlink()
        run = joined(tmp_path / "none", one)
        assert "images 0 of 2" in words(run)
        assert run.exit_code == ExitCode.SOME_FAILED

    def test_records_of_another_model(self, tmp_path: Path) -> None:
        one = results(tmp_path / "1", image("e/a.jpg"), image("e/b.jpg"))
        log = one / "records.jsonl"
        first, second = log.read_text().splitlines(keepends=True)
        log.write_text(first + second.replace(made.MODEL, "d" * 64))
        run = joined(tmp_path / "out", one)
        assert "Records of another model than their run names, kept and not counted: 1, such as e/b.jpg" in words(run)
        assert (run.counts.images, run.counts.not_met) == (1, 1)

    def test_a_number_of_pages_and_a_name_without_end(self, tmp_path: Path) -> None:
        lines = [image("e/t.tif", 0, 10**15), image("x" * 100_000)]
        one, two = results(tmp_path / "1", *lines), results(tmp_path / "2", *lines)
        first = next(iter(records(one).values()))
        (one / first.outputs.mask).unlink()  # type: ignore[union-attr]
        run = joined(tmp_path / "out", one, two)
        assert run.counts.images == 2
        assert len(words(run)) < 2000

    def test_an_endless_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        one = results(tmp_path / "1", image("e/a.jpg"))
        line = (one / "records.jsonl").read_bytes()
        monkeypatch.setattr("clue_cli.results.log.LONGEST_LINE", 5000)
        hidden = b"x" * (5000 - len(line) % 5000) + line.replace(b"a.jpg", b"z.jpg")
        with (one / "records.jsonl").open("ab") as log:
            log.write(b"y" * 5000 + hidden + line.replace(b"a.jpg", b"b.jpg"))
        with ResultsReader(one) as reader:
            assert reader.damaged == 1
        assert {locator for locator, _ in records(one)} == {"e/a.jpg", "e/b.jpg"}

    def test_explanations_that_lie(self, tmp_path: Path) -> None:
        one = results(tmp_path / "1", image("e/a.jpg"))
        two = results(tmp_path / "2", image("e/b.jpg", verdict=Verdict.NO_EVIDENCE))
        first, second = (next(iter(records(folder).values())) for folder in (one, two))
        assert isinstance(first, ImageRecord)
        assert isinstance(second, ImageRecord)
        with ExplanationLog(one / EXPLANATIONS) as log:
            log.append(explanation_of(first))
            log.append(explanation_of(first).model_copy(update={"text": "It is real.", "request_sha256": OTHER_SHA}))
            log.append(explanation_of(second))  # of no record of that folder, and a lie
        run = joined(tmp_path / "out", one, two)
        assert "do not pass the check, and are not shown: 1, such as e/a.jpg" in words(run)
        with ExplanationLog(tmp_path / "out" / EXPLANATIONS, read_only=True) as log:
            assert [one.text for one in log.accepted(first)] == ["The verdict is forged."]
            assert log.accepted(second) == []
            assert [one.status for one in log.entries()] == ["accepted", "discarded"]


class TestApart:
    def test_each_group_of_settings_has_a_folder(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        a, b = results(tmp_path / "a", image("e/a.jpg")), results(tmp_path / "b", image("e/b.jpg"), threshold=0.25)
        c = results(tmp_path / "c", image("e/c.jpg"), evidence=["<b>c"])
        out = tmp_path / "out"
        for _ in range(2):
            assert clue(["merge", "--apart", *map(str, (a, b, c)), "--out", str(out)]) == ExitCode.OK
            folders = {path.name: path for path in out.iterdir() if path.is_dir()}
            assert set(folders) == {f"mini-{read(folder).settings_digest[:12]}" for folder in (a, b)}
            found = [set(records(folder)) for folder in folders.values()]
            assert {("e/a.jpg", 0), ("e/c.jpg", 0)} in found
            assert {("e/b.jpg", 0)} in found
        page = (out / "index.html").read_text()
        assert all(f'href="{name}/index.html"' in page for name in folders)
        assert '<th scope="col">threshold</th>' in page
        assert "&lt;b&gt;c" in page
        # Another model of the same digest, under a name that is no name of a folder.
        d = results(tmp_path / "d", image("e/d.jpg"), model={"name": "../x/..", "digest": made.MODEL})
        e = results(tmp_path / "e", image("e/e.jpg"), model={"name": "../x/..", "digest": "e" * 64}, threshold=0.5)
        merge_apart([d, e], out, SILENT)
        assert len([path for path in out.iterdir() if path.is_dir()]) == 3
        assert (out / f"_x_-{read(e).settings_digest[:12]}").is_dir()

    def test_refusals_change_nothing(self, tmp_path: Path) -> None:
        a, b = results(tmp_path / "a", image("a"), shard="1/2"), results(tmp_path / "b", image("b"), shard="1/3")
        with pytest.raises(UsageError, match="of 2 and of 3 shards"):
            merge_apart([a, b], tmp_path / "out", SILENT)
        assert not (tmp_path / "out").exists()
        joined(tmp_path / "merged", a)
        with pytest.raises(OutputError, match="is a results folder itself"):
            merge_apart([b], tmp_path / "merged", SILENT)
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "index.html").write_text("mine")
        with pytest.raises(OutputError, match=r"something else than merges of clue: index.html"):
            merge_apart([a], tmp_path / "site", SILENT)
        assert (tmp_path / "site" / "index.html").read_text() == "mine"


# ---------------------------------------------------------------------------------------------------- shards of a scan


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    folder = tmp_path / "evidence"
    (folder / ".hidden").mkdir(parents=True)
    for number in range(4):
        (folder / f"{number}.jpg").write_bytes(jpeg(64 + number, 64))
    (folder / "copy.jpg").write_bytes(jpeg(64, 64))
    (folder / "note.txt").write_text("not a picture")
    (folder / "pages.tif").write_bytes(tiff(3))
    (folder / "cut.jpg").write_bytes(jpeg(96, 80)[:300])
    (folder / "video.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(99))
    (folder / "broken.zip").write_bytes(zip_of({"x.jpg": jpeg(64, 64)})[:-30])
    (folder / "case.zip").write_bytes(zip_of({f"x/{number}.jpg": jpeg(64, 64 + number) for number in range(4)}))
    (folder / "gone.jpg").symlink_to("nowhere")
    return folder


def scan(evidence: Path, out: Path, model: Path, shard: str | None = None, stop: Any = None) -> RunRecord:
    chosen = ScanOptions(model=str(model), device="cpu", shard=None if shard is None else Shard.parse(shard))
    return pipeline.scan([evidence], out, chosen, SILENT, stop)


def said(folder: Path) -> dict[Any, Any]:
    return {key: record.model_dump(exclude={"run_id", "seconds"}) for key, record in records(folder).items()}


def rows(folder: Path) -> list[str]:
    return [line.rpartition(",")[0].rpartition(",")[0] for line in (folder / "summary.csv").read_text().splitlines()]


def about(run: RunRecord) -> dict[str, Any]:
    passing = {"run_id", "command_line", "started", "finished", "seconds", "settings"}
    return run.model_dump(exclude=passing) | {"warnings": sorted(run.warnings)}


@pytest.mark.parametrize("divided", [False, True])
def test_shards_together_are_one_scan(
    divided: bool, evidence: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if divided:
        monkeypatch.setattr("clue_cli.evidence.walk.LARGEST_WHOLE", 0)
    whole = scan(evidence, tmp_path / "whole", model)
    parts = [tmp_path / f"part{number}" for number in (1, 2, 3)]
    runs = [scan(evidence, part, model, f"{number}/3") for number, part in enumerate(parts, start=1)]
    assert [run.settings["shard"] for run in runs] == ["1/3", "2/3", "3/3"]
    assert {run.settings_digest for run in runs} == {whole.settings_digest}
    assert all(sum(run.counts.files for run in runs) > run.counts.files > 0 for run in runs)
    merged = joined(tmp_path / "out", *parts)
    assert said(tmp_path / "out") == said(tmp_path / "whole")
    assert rows(tmp_path / "out") == rows(tmp_path / "whole")
    assert about(merged) == about(whole)
    for record in records(tmp_path / "whole").values():
        if isinstance(record, ImageRecord):
            for name in (record.outputs.mask, record.outputs.heatmap, record.outputs.preview):
                assert (tmp_path / "out" / str(name)).read_bytes() == (tmp_path / "whole" / str(name)).read_bytes()
    # It is a results folder like any other.
    again = scan(evidence, tmp_path / "out", model)
    assert again.counts.resumed == again.counts.images + again.counts.failures - 1  # the link that leads nowhere
    assert clue(["report", str(tmp_path / "out")]) == ExitCode.OK
    assert clue(["export", str(tmp_path / "out"), "--out", str(tmp_path / "all.csv")]) == ExitCode.OK
    assert about(joined(tmp_path / "more", tmp_path / "out"))["counts"] == about(again)["counts"]


def test_shards_in_one_folder_are_merged_too(evidence: Path, model: Path, tmp_path: Path) -> None:
    whole = scan(evidence, tmp_path / "whole", model)
    scan(evidence, tmp_path / "one", model, "1/2")
    second = scan(evidence, tmp_path / "one", model, "2/2")
    assert second.counts.not_met > 0
    assert "of shard 1/2; they stay" in words(second)
    merged = joined(tmp_path / "out", tmp_path / "one")
    assert said(tmp_path / "out") == said(tmp_path / "whole")
    assert [words for words in merged.warnings if "of shard 1/2" not in words] == whole.warnings
    assert about(merged) | {"warnings": []} == about(whole) | {"warnings": []}


def test_a_shard_that_was_stopped_goes_on(evidence: Path, model: Path, tmp_path: Path) -> None:
    class StopAfterOne(type(SILENT)):  # type: ignore[misc]
        def result(self, record: Any) -> None:
            if isinstance(record, ImageRecord) and record.page_count == 1:  # one with pages left is redone
                stop.set()

    stop = threading.Event()
    chosen = ScanOptions(model=str(model), device="cpu", shard=Shard(1, 2))
    first = pipeline.scan([evidence], tmp_path / "1", chosen, StopAfterOne(), stop)
    assert first.status == "interrupted"
    done = set(records(tmp_path / "1"))
    scan(evidence, tmp_path / "2", model, "2/2")
    assert joined(tmp_path / "out", tmp_path / "1", tmp_path / "2").status == "interrupted"
    second = scan(evidence, tmp_path / "1", model, "1/2")
    assert second.counts.resumed > 0
    assert done < set(records(tmp_path / "1"))
    whole = scan(evidence, tmp_path / "whole", model)
    merged = joined(tmp_path / "out", tmp_path / "1")
    assert said(tmp_path / "out") == said(tmp_path / "whole")
    assert merged.model_dump(include={"status", "exit_code"}) == whole.model_dump(include={"status", "exit_code"})
    assert merged.counts.model_copy(update={"resumed": 0}) == whole.counts


def test_a_shard_without_pictures_is_no_error(model: Path, tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "1.jpg").write_bytes(jpeg(64, 64))
    codes = sorted(scan(tmp_path / "e", tmp_path / str(n), model, f"{n}/2").exit_code or 0 for n in (1, 2))
    assert codes == [0, 0]
