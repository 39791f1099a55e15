"""The results folder: whole files or none, one scan at a time, and nothing foreign touched."""

from __future__ import annotations

import csv
import errno
import json
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

from clue_cli.commands.schema import record_schema, run_schema
from clue_cli.errors import OutputError, UsageError
from clue_cli.records import SCHEMA_VERSION, Counts, OutputPaths, RunRecord
from clue_cli.results.folder import ResultsFolder, output_errors
from clue_cli.results.scan_store import ResultStore
from tests.clue_cli.results.made import failure, files, image, mask, open_store, put, run, stamp

PHOTO_FILES = {
    "masks/evidence/a.jpg.png",
    "heatmaps/evidence/a.jpg.png",
    "verdicts/evidence/a.jpg.json",
    "previews/evidence/a.jpg.preview.jpg",
    "previews/evidence/a.jpg.heat.png",
    "previews/evidence/a.jpg.outline.png",
    "previews/evidence/a.jpg.thumb.jpg",
}
ALWAYS = {"records.jsonl", "summary.csv", "run.json", ".clue.lock"}


def test_everything_that_is_written(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "results"
    with open_store(out) as store:
        written = put(store, image("evidence/a.jpg"))
        failed = store.write_failure(failure("evidence/b.jpg"))
        final = store.finish(run(status="finished", counts=Counts(images=1)))
    assert files(out) == PHOTO_FILES | ALWAYS
    assert np.array_equal(np.asarray(Image.open(out / "masks/evidence/a.jpg.png")), mask() * 255)
    assert np.asarray(Image.open(out / "heatmaps/evidence/a.jpg.png")).max() == 65535
    assert json.loads((out / "verdicts/evidence/a.jpg.json").read_text()) == written.model_dump(mode="json")
    lines = (out / "records.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [written.model_dump(mode="json"), failed.model_dump(mode="json")]
    for line in lines:
        jsonschema.validate(json.loads(line), record_schema())
    assert RunRecord.model_validate_json((out / "run.json").read_text()) == final
    jsonschema.validate(json.loads((out / "run.json").read_text()), run_schema())
    with (out / "summary.csv").open(newline="") as summary:
        assert [row["locator"] for row in csv.DictReader(summary)] == ["evidence/a.jpg", "evidence/b.jpg"]


def test_the_store_adds_what_only_it_knows(tmp_path: Path) -> None:
    with open_store(tmp_path / "out") as store:
        written = put(store, image(run_id="", settings_digest=""))
        failed = store.write_failure(failure())
        started = RunRecord.model_validate_json((tmp_path / "out/run.json").read_text())
    assert written.run_id == failed.run_id == started.run_id != ""
    assert written.settings_digest != failed.settings_digest == started.settings_digest
    assert written.seconds.write > image().seconds.write


def test_heatmaps_and_previews_can_be_left_out(tmp_path: Path) -> None:
    with open_store(tmp_path / "out") as store:
        store.write_image(image("evidence/a.jpg"), {"mask": b"PNG"})
    assert files(tmp_path / "out") - ALWAYS == {"masks/evidence/a.jpg.png", "verdicts/evidence/a.jpg.json"}


def test_nothing_is_logged_of_an_image_whose_pictures_cannot_be_written(tmp_path: Path) -> None:
    with open_store(tmp_path / "out") as store:
        (tmp_path / "out" / "heatmaps").write_bytes(b"a file where a folder must be")
        with pytest.raises(OutputError, match="heatmaps"):
            put(store, image("evidence/a.jpg"))
        assert list(store.records()) == []
    assert not (tmp_path / "out/.tmp").exists()


def test_names_that_differ_in_case_only_do_not_meet(tmp_path: Path) -> None:
    names = ["x/A.jpg", "x/a.jpg", "X/a.jpg", "x/a.JPG"]
    with open_store(tmp_path / "out") as store:
        first = [put(store, image(name)).outputs.mask for name in names]
    assert first[0] == "masks/x/A.jpg.png"
    assert len({name.casefold() for name in first}) == 4
    # The next run gives the same names, in whatever order it comes to them.
    with open_store(tmp_path / "out", threshold=0.9) as store:
        again = {name: put(store, image(name)).outputs.mask for name in reversed(names)}
    assert [again[name] for name in names] == first
    assert {name for name in files(tmp_path / "out") if name.startswith("masks")} == set(first)


def test_two_locators_made_to_share_a_hash_still_get_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Collides:
        def __init__(self, data: bytes) -> None:
            self.data = data

        def hexdigest(self) -> str:
            return "0" * 12 + ("1" if self.data == b"a:" else "2") * 52

    with open_store(tmp_path / "out") as store:
        monkeypatch.setattr("clue_cli.results.names.hashlib.sha256", Collides)
        # The log's own digests must stay what they are.
        taken: dict[object, str] = {}
        monkeypatch.setattr(store._log, "take_name", lambda name, locator: taken.setdefault(name, locator) == locator)
        masks = [store.outputs(locator, 0, 1, ()).mask for locator in ("a:", "a?")]
    assert masks == ["masks/a_~000000000000.png", f"masks/a_~{'0' * 12}{'2' * 20}.png"]


def test_many_threads(tmp_path: Path) -> None:
    before = threading.active_count()
    with open_store(tmp_path / "out") as store, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda page: put(store, image("evidence/many.tif", page, 40)), range(40)))
        assert [record.page for record in store.records()] == list(range(40))
        store.finish(run())
    assert sum(name.startswith("masks/") for name in files(tmp_path / "out")) == 40
    assert threading.active_count() <= before


class TestSuperseding:
    def test_new_content_removes_what_was_made_of_the_old(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        with open_store(out) as store:
            for page in range(3):
                put(store, image("evidence/a.tif", page, 3))
            put(store, image("evidence/b.jpg"))
        with open_store(out) as store:
            put(store, image("evidence/a.tif"))
        assert {name for name in files(out) if name.startswith("masks")} == {
            "masks/evidence/a.tif.png",
            "masks/evidence/b.jpg.png",
        }
        assert len((out / "records.jsonl").read_text().splitlines()) == 5

    def test_a_failure_removes_the_former_pictures(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        with open_store(out) as store:
            put(store, image("evidence/a.jpg"))
        with open_store(out) as store:
            store.write_failure(failure("evidence/a.jpg"))
            store.finish(run())
        assert files(out) - {name for name in files(out) if name.startswith("runs/")} == ALWAYS

    def test_pages_written_before_the_next_one_is_announced_stay(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        for _ in range(2):
            with open_store(out) as store:
                first = put(store, image("evidence/a.tif", 0, 2))
                store.outputs("evidence/a.tif", 1, 2, ())
                assert (out / str(first.outputs.preview)).is_file()

    def test_a_failure_in_the_same_words_is_not_said_twice(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        with open_store(out) as store:
            store.write_failure(failure("a", file=None))
        before = (out / "records.jsonl").read_bytes()
        with open_store(out) as store:
            store.write_failure(failure("a", file=None))
            assert store.not_met() == 0
            assert (out / "records.jsonl").read_bytes() == before
            store.write_failure(failure("a", file=None, message="Other words."))
        assert len((out / "records.jsonl").read_bytes().splitlines()) == 2

    def test_a_failure_beside_pages_is_said_again(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        for _ in range(2):
            with open_store(out) as store:
                store.write_failure(failure("a", other_pages=1))
                put(store, image("a", 0, 2))
                assert [record.page for record in store.records()] == [None, 0]

    def test_evidence_not_met_again_stays_visible(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        with open_store(out) as store:
            put(store, image("evidence/lost.jpg"))
        with open_store(out) as store:
            put(store, image("evidence/new.jpg"))
            final = store.finish(run(counts=Counts(images=1)))
        assert (final.counts.images, final.counts.not_met) == (1, 1)
        with (out / "summary.csv").open(newline="") as summary:
            rows = {row["locator"]: row["met_in_this_run"] for row in csv.DictReader(summary)}
        assert rows == {"evidence/lost.jpg": "no", "evidence/new.jpg": "yes"}
        assert "masks/evidence/lost.jpg.png" in files(out)


class TestRuns:
    def test_former_runs_are_kept(self, tmp_path: Path) -> None:
        ids = []
        for number in range(3):
            with open_store(tmp_path) as store:
                ids.append(store.finish(run(version=str(number))).run_id)
        assert files(tmp_path / "runs") == {f"{name}.json" for name in ids[:2]}
        assert ids == sorted(ids)
        assert json.loads((tmp_path / f"runs/{ids[0]}.json").read_text())["version"] == "0"

    def test_overwriting_removes_what_was_recorded_and_nothing_else(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        with open_store(out) as store:
            put(store, image("evidence/a.jpg"))
            store.finish(run())
        with open_store(out, threshold=0.1) as store:
            put(store, image("evidence/b.jpg"))
        (out / "index.html").write_text("page")
        (out / "notes.txt").write_text("mine")
        (out / "masks/evidence/mine.png").write_text("mine")
        with open_store(out, overwrite=True) as store:
            assert list(store.records()) == []
        assert files(out) == {"notes.txt", "masks/evidence/mine.png", "run.json", "records.jsonl", ".clue.lock"}
        assert not (out / "previews").exists()

    def test_leftovers_of_a_killed_run_are_removed(self, tmp_path: Path) -> None:
        open_store(tmp_path).close()
        (tmp_path / ".tmp").mkdir()
        (tmp_path / ".tmp/77-0").write_text("half")
        (tmp_path / f".{'0a' * 8}.part").touch()
        (tmp_path / "records.jsonl").write_bytes(b'{"kind":"ima')
        with ResultStore(tmp_path) as store:
            assert "torn" in store.begin(run(), stamp())[0]
        assert files(tmp_path) == {".clue.lock", "run.json", "records.jsonl", "records.torn"} | {
            name for name in files(tmp_path) if name.startswith("runs/")
        }


class TestOpening:
    def test_one_scan_at_a_time(self, tmp_path: Path) -> None:
        with open_store(tmp_path), pytest.raises(OutputError, match="Another scan"):
            ResultStore(tmp_path)
        ResultStore(tmp_path).close()

    @pytest.mark.parametrize("name", ["holiday.jpg", "run.json", "records.jsonl", "masks/x.png"])
    def test_foreign_folders_are_refused_and_left_alone(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"tool": "something else"}')
        with pytest.raises(OutputError, match="something else than results"):
            ResultStore(tmp_path)
        assert files(tmp_path) == {name}

    @pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", ".clue.lock"])
    def test_what_desktops_leave_does_not_count(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("")
        open_store(tmp_path).close()
        assert (tmp_path / "run.json").is_file()

    def test_results_of_a_newer_version_are_left_alone(self, tmp_path: Path) -> None:
        major = int(SCHEMA_VERSION.split(".")[0])
        content = json.dumps({"tool": "clue", "schema_version": f"{major + 1}.0", "unheard": "of"})
        (tmp_path / "run.json").write_text(content)
        with pytest.raises(OutputError, match="newer version"):
            ResultStore(tmp_path)
        assert (tmp_path / "run.json").read_text() == content

    @pytest.mark.parametrize("evidence", [".", "inner", "inner/photo.jpg", "../out/inner", "../link"])
    def test_evidence_in_the_results_folder_is_refused(self, tmp_path: Path, evidence: str) -> None:
        out = tmp_path / "out"
        (out / "inner").mkdir(parents=True)
        (tmp_path / "link").symlink_to(out)
        with pytest.raises(UsageError, match="results folder"):
            ResultStore(out, [tmp_path / "elsewhere", out / evidence])

    def test_results_in_the_evidence_are_allowed(self, tmp_path: Path) -> None:
        ResultStore(tmp_path / "results", [tmp_path]).close()
        assert (tmp_path / "results").is_dir()

    def test_a_file_is_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        for out in (tmp_path / "file", tmp_path / "file" / "below"):
            with pytest.raises(OutputError, match="Cannot write"):
                ResultStore(out)


class TestFolder:
    @pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", ""])
    def test_nothing_leaves_the_folder(self, tmp_path: Path, path: str) -> None:
        folder = ResultsFolder(tmp_path)
        with pytest.raises(ValueError, match="not a path below"), folder.create(path):
            pass
        with pytest.raises(ValueError, match="not a path below"):
            folder.remove(path)

    def test_removing_follows_no_links(self, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "precious").write_text("")
        root = tmp_path / "root"
        (root / "masks").mkdir(parents=True)
        (root / "linked").symlink_to(outside)
        (root / "masks/link").symlink_to(outside / "precious")
        folder = ResultsFolder(root)
        folder.remove("masks/link")
        folder.remove("masks/absent")
        with pytest.raises(ValueError, match="symbolic link"):
            folder.remove("linked/precious")
        assert (outside / "precious").exists()
        assert (root / "masks/link").is_symlink()

    @pytest.mark.parametrize("hostile", ["../../precious", "run.json", "/etc/passwd"])
    def test_an_edited_log_removes_nothing_foreign(self, tmp_path: Path, hostile: str) -> None:
        out = tmp_path / "out"
        (tmp_path / "precious").write_text("")
        with open_store(out) as store:
            store._append(image("a", outputs=OutputPaths(mask=hostile, heatmap=None, verdict="verdicts/v.json")))
        with open_store(out) as store, pytest.raises(OutputError, match="did not write"):
            store.outputs("a", 0, 1, ())
        assert (tmp_path / "precious").exists()
        assert (out / "run.json").exists()

    @pytest.mark.parametrize(
        ("number", "advice"),
        [
            (errno.ENOSPC, "full"),
            (errno.EDQUOT, "quota"),
            (errno.EACCES, "permissions"),
            (errno.EROFS, "read-only"),
            (errno.ENAMETOOLONG, "shorter"),
            (errno.EIO, "Check the disk"),
        ],
    )
    def test_the_cause_is_told_with_advice(self, number: int, advice: str) -> None:
        with pytest.raises(OutputError) as caught, output_errors(Path("results")):
            raise OSError(number, "Cause")
        assert "Cause" in caught.value.message
        assert advice in str(caught.value.advice)
        assert "same command" in str(caught.value.advice)
        with pytest.raises(OutputError, match="temporary") as caught, output_errors(Path("results")):
            raise sqlite3.OperationalError("database or disk is full")
        assert "SQLITE_TMPDIR" in str(caught.value.advice)


def test_another_model_over_earlier_results_is_said(tmp_path: Path) -> None:
    def begin(model: str) -> list[str]:
        with ResultStore(tmp_path) as store:
            return store.begin(run(model={"name": model, "digest": model * 64}), stamp())

    assert begin("a") == []
    assert begin("a") == []
    (warning,) = begin("b")
    assert warning.startswith(f"The results here were made with the model a, digest {'a' * 64}")
