"""The manifest of real scans: what the evidence was, before and after, and how it is found again."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import threading
import zipfile
from datetime import UTC, datetime
from pathlib import Path, PureWindowsPath
from typing import Any
from xml.etree import ElementTree

import pytest

from clue_cli.app import run as clue
from clue_cli.custody import evidence as evidence_module
from clue_cli.custody.findings import Findings
from clue_cli.custody.listing import DFXML, Listed, read_dfxml, read_hashdeep
from clue_cli.custody.places import leads_out, move
from clue_cli.custody.signature import read_secret_key
from clue_cli.custody.verify import verify
from clue_cli.evidence.reader import hash_file
from clue_cli.evidence.selection import Selection
from clue_cli.merge import merge
from clue_cli.records import RECORD, ImageRecord, RunRecord
from clue_cli.results.manifest_names import ADDITIONS, LISTED_IN_SUMS, MANIFEST_SUMS, SIGNATURE
from clue_cli.scan import ScanOptions, part, pipeline
from clue_cli.scan.pipeline import scan
from model.reporter import SILENT
from tests.clue_cli.custody.conftest import found
from tests.clue_cli.custody.signing import write_keys
from tests.faults.pictures import jpeg, tiff

HASHDEEP = shutil.which("hashdeep")
needs_hashdeep = pytest.mark.skipif(HASHDEEP is None, reason="hashdeep is not installed (Debian: hashdeep)")


def scanned(evidence: Path, out: Path, model: Path, **options: Any) -> RunRecord:
    return scan([evidence], out, ScanOptions(model=str(model), device="cpu", **options), SILENT)


def write_evidence(folder: Path) -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(jpeg(64, 48, quality=80))
    (folder / "sub/b, c.jpg").write_bytes(jpeg(48, 64))
    (folder / "cut.jpg").write_bytes(jpeg(64, 64)[:300])
    (folder / "pages.tif").write_bytes(tiff(2))
    with zipfile.ZipFile(folder / "case.zip", "w") as archive:
        archive.writestr("x/d.jpg", jpeg(40, 40))
    return folder


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """A folder with `evidence` and `results` of it, with MD5 and SHA-1: read it only."""
    folder = tmp_path_factory.mktemp("case")
    write_evidence(folder / "evidence")
    (folder / "evidence" / os.fsdecode(b"no\xfftext.jpg")).write_bytes(jpeg(32, 32, quality=70))
    (folder / "evidence/new\nline.jpg").write_bytes(jpeg(32, 40, quality=70))
    scanned(folder / "evidence", folder / "results", model, hashes=("md5", "sha1"))
    return folder


@pytest.fixture
def copy(case: Path, tmp_path: Path) -> Path:
    """A copy to tamper with."""
    return Path(shutil.copytree(case, tmp_path / "copy"))


def listed(path: Path) -> dict[str, Listed]:
    with path.open("rb") as stream:
        return {one.name: one for one in read_dfxml(stream)}


def test_what_was_read_is_listed(case: Path) -> None:
    found_in = listed(case / "results/evidence.dfxml")
    assert set(found_in) == {
        "evidence/a.jpg",
        "evidence/sub/b, c.jpg",
        "evidence/cut.jpg",
        "evidence/pages.tif",
        "evidence/case.zip",
        "evidence/case.zip!/x/d.jpg",
        "evidence/no\\xfftext.jpg",
        "evidence/new\\u000aline.jpg",
    }
    content = (case / "evidence/a.jpg").read_bytes()
    one = found_in["evidence/a.jpg"]
    expected = {name: hashlib.new(name, content).hexdigest() for name in ("md5", "sha1", "sha256")}
    assert one.before is not None and one.before.hashes == one.now.hashes == expected
    assert one.before.byte_size == one.now.byte_size == len(content)
    modified = (case / "evidence/a.jpg").stat().st_mtime_ns
    assert one.before.modified == one.now.modified
    assert one.now.modified is not None and one.now.modified.endswith(f".{modified % 10**9:09d}Z")
    archive, member = found_in["evidence/case.zip"], found_in["evidence/case.zip!/x/d.jpg"]
    assert archive.before is not None and archive.before.byte_size == (case / "evidence/case.zip").stat().st_size
    assert member.before is None and member.now.modified is None and set(member.now.hashes) == set(expected)


def test_elements_are_those_of_the_schema_in_its_order(case: Path) -> None:
    """`dfxml.xsd` of the DFXML working group has them as sequences; no package brings it."""
    order = ["filename", "name_type", "filesize", "mtime", "hashdigest", "original_fileobject"]
    for name in ("evidence.dfxml", "manifest.dfxml"):
        root = ElementTree.parse(case / "results" / name).getroot()
        assert root.tag == f"{{{DFXML}}}dfxml" and root.get("version")
        children = [child.tag.removeprefix(f"{{{DFXML}}}") for child in root]
        assert children[:3] == ["metadata", "creator", "source"] and set(children[3:]) == {"fileobject"}
        for one in root.iter(f"{{{DFXML}}}fileobject"):
            tags = [child.tag.rpartition("}")[2] for child in one]
            assert tags == sorted(tags, key=order.index) and {"filename", "name_type", "hashdigest"} <= set(tags)


def test_records_say_what_was_written(case: Path) -> None:
    records = [RECORD.validate_json(line) for line in (case / "results/records.jsonl").read_bytes().splitlines()]
    images = [record for record in records if isinstance(record, ImageRecord)]
    assert len(images) == 7
    for record in images:
        written = {one.output: one for one in record.written}
        assert set(written) == {name for name, path in record.outputs if path is not None} - {"verdict"}
        for name, one in written.items():
            content = (case / "results" / getattr(record.outputs, name)).read_bytes()
            assert (one.byte_size, one.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert (record.file.modified is None) == ("!/" in record.locator)
        assert record.file.md5 and record.file.sha1


def test_run_json_counts_what_was_compared(case: Path) -> None:
    run = RunRecord.model_validate_json((case / "results/run.json").read_bytes())
    assert run.evidence_unchanged is True
    assert run.evidence_compared == 6  # the cut one too


def audit(where: Path, known: str, *names: str) -> tuple[int, str]:
    assert HASHDEEP is not None
    done = subprocess.run(
        [HASHDEEP, "-r", "-l", "-a", "-vv", "-k", known, *names], cwd=where, capture_output=True, check=False
    )
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")


def results_files(results: Path) -> list[str]:
    """As README says."""
    apart = {*LISTED_IN_SUMS, MANIFEST_SUMS, ADDITIONS, ".clue.lock"}
    return [path.name for path in results.iterdir() if path.name not in apart]


@needs_hashdeep
class TestHashdeep:
    def test_the_results(self, copy: Path) -> None:
        results = copy / "results"
        code, said = audit(results, "manifest.hashdeep", *results_files(results))
        assert code == 0 and "Audit passed" in said
        with (results / "summary.csv").open("a") as summary:
            summary.write(" ")
        code, said = audit(results, "manifest.hashdeep", *results_files(results))
        assert code == 1 and "summary.csv: No match" in said

    def test_the_evidence(self, copy: Path) -> None:
        (copy / "evidence/new\nline.jpg").unlink()  # which the format cannot hold
        code, said = audit(copy, "results/evidence.hashdeep", "evidence")
        assert code == 0 and "Files matched: 6" in said
        shutil.move(copy / "evidence/a.jpg", copy / "evidence/z.jpg")
        code, said = audit(copy, "results/evidence.hashdeep", "evidence")
        assert code == 1 and "evidence/z.jpg: Moved from evidence/a.jpg" in said

    def test_its_own_list_is_read_as_ours(self, case: Path, tmp_path: Path) -> None:
        assert HASHDEEP is not None
        command = [HASHDEEP, "-c", "md5,sha1,sha256", "-r", "-l", "evidence"]
        theirs = subprocess.run(command, cwd=case, capture_output=True, check=True).stdout
        (tmp_path / "list").write_bytes(b"".join(line for line in theirs.splitlines(True) if b"new" not in line))
        with (tmp_path / "list").open("rb") as ours, (case / "results/evidence.hashdeep").open("rb") as mine:
            read, expected = (
                {one.name: one.now.hashes for _, one in read_hashdeep(stream) if isinstance(one, Listed)}
                for stream in (ours, mine)
            )
        assert read == expected and len(read) == 6


def test_the_sums_are_those_of_sha256sum(case: Path) -> None:
    program = shutil.which("sha256sum")
    if program is None:
        pytest.skip("there is no sha256sum")
    done = subprocess.run([program, "--strict", "-c", MANIFEST_SUMS], cwd=case / "results", check=False)
    assert done.returncode == 0


class TestEvidence:
    def test_unchanged(self, case: Path) -> None:
        assert found(case / "results", case / "evidence") == set()

    def test_another_name_of_the_folder(self, copy: Path) -> None:
        shutil.move(copy / "evidence", copy / "Beweise")
        assert found(copy / "results", copy / "Beweise") == set()

    def test_elsewhere(self, copy: Path, tmp_path: Path) -> None:
        """A folder of it, the folder above, and one of another name with a name that was met."""
        assert found(copy / "results", copy / "evidence/sub") == set()
        (tmp_path / "other").mkdir()
        shutil.move(copy / "evidence", tmp_path / "other/evidence")
        assert found(copy / "results", tmp_path / "other") == set()
        shutil.move(tmp_path / "other/evidence/sub", tmp_path / "elsewhere")
        assert {kind for kind, _ in found(copy / "results", tmp_path / "other")} == {"missing"}
        with Findings() as findings:
            verified = verify(copy / "results", findings, [tmp_path / "elsewhere"])
            assert findings.differences == 0 and (verified.evidence, verified.elsewhere) == (1, 7)
        assert any("was taken for the recorded evidence/sub." in note for note in verified.notes)
        assert any("7 files" in note and "were not compared" in note for note in verified.notes)

    def test_a_file_without_its_folder(self, copy: Path) -> None:
        assert found(copy / "results", copy / "evidence/a.jpg", copy / "evidence/case.zip") == set()

    def test_tampered(self, copy: Path) -> None:
        evidence = copy / "evidence"
        (evidence / "a.jpg").write_bytes(jpeg(64, 48, quality=30))
        (evidence / "cut.jpg").unlink()
        shutil.move(evidence / "pages.tif", evidence / "sub/renamed.tif")
        (evidence / "added.jpg").write_bytes(jpeg(20, 20))
        (evidence / "notes.txt").write_text("no picture")
        (evidence / "sub/b, c.jpg").write_text("no picture any more")
        with zipfile.ZipFile(evidence / "case.zip", "w") as archive:
            archive.writestr("x/d.jpg", jpeg(41, 41))
            archive.writestr("x/e.jpg", jpeg(42, 42))
        assert found(copy / "results", evidence) == {
            ("changed", "evidence/a.jpg"),
            ("missing", "evidence/cut.jpg"),
            ("moved", "evidence/pages.tif"),
            ("added", "evidence/added.jpg"),
            ("changed", "evidence/sub/b, c.jpg"),
            ("changed", "evidence/case.zip"),
            ("changed", "evidence/case.zip!/x/d.jpg"),
            ("added", "evidence/case.zip!/x/e.jpg"),
        }

    def test_a_time_alone_is_no_difference(self, copy: Path) -> None:
        os.utime(copy / "evidence/a.jpg", (0, 0))
        assert found(copy / "results", copy / "evidence") == set()

    def test_a_link_in_its_place(self, copy: Path, model: Path) -> None:
        """With the same content, for now: the scan would not have followed it."""
        evidence = copy / "evidence"
        shutil.move(evidence / "a.jpg", copy / "a.jpg")
        (evidence / "a.jpg").symlink_to(copy / "a.jpg")
        shutil.move(evidence / "sub", copy / "sub")
        (evidence / "sub").symlink_to(copy / "sub")
        assert found(copy / "results", evidence) == {
            ("changed", "evidence/a.jpg"),
            ("changed", "evidence/sub/b, c.jpg"),
        }
        scanned(evidence, copy / "followed", model, follow_links=True)
        assert found(copy / "followed", evidence) == set()
        scanned(evidence, copy / "followed", model)  # an earlier run followed it
        assert found(copy / "followed", evidence) == set()

    def test_what_cannot_be_read(self, tmp_path: Path, model: Path) -> None:
        """As at the scan it is no difference; what came since is one, although it cannot be compared."""
        evidence = write_evidence(tmp_path / "evidence")
        os.mkfifo(evidence / "pipe.jpg")
        scanned(evidence, tmp_path / "results", model)
        (evidence / "words.txt").write_text("no picture")
        (evidence / ".hidden.jpg").write_bytes(jpeg(20, 20))
        (evidence / "link.jpg").symlink_to("a.jpg")
        with Findings() as findings:
            verified = verify(tmp_path / "results", findings, [evidence])
            assert findings.differences == 0
        said = (
            "Not compared: 1 file that is no picture; 1 path that the scan could not read either; "
            "2 paths that the scan's options leave out (hidden: 1, link: 1)."
        )
        assert said in verified.notes
        os.mkfifo(evidence / "pipe2.jpg")
        assert found(tmp_path / "results", evidence) == {("unreadable", "evidence/pipe2.jpg")}

    def test_a_file_that_cannot_be_read_any_more(self, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is neither missing nor the end of the verification."""
        (copy / "evidence/a.jpg").rename(copy / "a.jpg")
        (copy / "evidence/a.jpg").symlink_to(copy / "a.jpg")
        (copy / "evidence/cut.jpg").unlink()

        def refused(path: Path, *others: Any) -> Any:
            if path.name == "a.jpg":
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return hash_file(path, *others)

        monkeypatch.setattr(evidence_module, "hash_file", refused)
        assert found(copy / "results", copy / "evidence") == {
            ("unreadable", "evidence/a.jpg"),
            ("missing", "evidence/cut.jpg"),
        }

    def test_a_folder_that_cannot_be_read_any_more(self, copy: Path) -> None:
        (copy / "evidence/cut.jpg").unlink()
        (copy / "evidence/sub").chmod(0)
        try:
            if os.access(copy / "evidence/sub", os.R_OK):
                pytest.skip("whoever runs this may read everything")
            assert found(copy / "results", copy / "evidence") == {
                ("unreadable", "evidence/sub"),
                ("unreadable", "evidence/sub/b, c.jpg"),
                ("missing", "evidence/cut.jpg"),
            }
        finally:
            (copy / "evidence/sub").chmod(0o755)

    def test_moved_names_where_it_is_now(self, copy: Path) -> None:
        (copy / "usb/disk").mkdir(parents=True)
        shutil.move(copy / "evidence", copy / "usb/disk/evidence")
        with Findings() as findings:
            verify(copy / "results", findings, [copy / "usb"])
            details = {one.path: one.detail for one in findings.all()}
        assert details["evidence/a.jpg"] == "the same content is at usb/disk/evidence/a.jpg"

    def test_a_recorded_name_does_not_lead_out_of_the_evidence(
        self, copy: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (copy / "other.jpg").write_bytes(jpeg(20, 20))
        hashed: list[Path] = []

        def hashing(path: Path, *others: Any) -> Any:
            hashed.append(path)
            return hash_file(path, *others)

        monkeypatch.setattr(evidence_module, "hash_file", hashing)
        for name in ("evidence.dfxml", "evidence.hashdeep"):
            content = (copy / "results" / name).read_bytes()
            (copy / "results" / name).write_bytes(content.replace(b"evidence/cut.jpg", b"evidence/../other.jpg"))
        found(copy / "results", copy / "evidence")
        assert hashed and not [path for path in hashed if path.name == "other.jpg"]

    @pytest.mark.parametrize(
        ("name", "out"),
        [("..\\x", True), ("C:\\x", True), ("\\x", True), ("a/../../x", True), ("a/b.jpg", False), ("", False)],
    )
    def test_nor_does_one_of_windows(self, name: str, out: bool) -> None:
        assert leads_out(PureWindowsPath(name)) is out

    @pytest.mark.parametrize("name", ["\\u0000", "\\ud800", "\\Uffffffff", "x" * 300])
    def test_a_recorded_name_that_no_file_can_have_is_not_looked_for(self, copy: Path, name: str) -> None:
        for listing in ("evidence.dfxml", "evidence.hashdeep"):
            content = (copy / "results" / listing).read_bytes()
            (copy / "results" / listing).write_bytes(content.replace(b"evidence/cut.jpg", f"evidence/{name}".encode()))
        assert ("changed", "evidence.dfxml") in found(copy / "results", copy / "evidence")

    def test_a_common_move_is_said_once(self, copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
        evidence = copy / "usb/copy/evidence"
        evidence.parent.mkdir(parents=True)
        shutil.move(copy / "evidence", evidence)
        (evidence / "cut.jpg").rename(evidence / "another.jpg")
        shutil.copy(evidence / "a.jpg", evidence.parent / "0.jpg")  # its content, too, and the name of none
        words = ["verify", str(copy / "results"), "--evidence", str(copy / "usb")]
        assert clue([*words, "--json", "--quiet"]) == 1
        singly = [one for one in json.loads(capfd.readouterr().out)["findings"] if one["kind"] == "moved"]
        assert len(singly) == 8 and all("the same content is at usb/copy/evidence/" in one["detail"] for one in singly)
        assert clue(words) == 1
        said = capfd.readouterr().err
        assert "MOVED: 8\n  7 files now lie below usb/copy/, under the same names; name it with --evidence" in said
        assert "  evidence/cut.jpg: the same content is at usb/copy/evidence/another.jpg\n" in said
        assert said.count("the same content is at") == 1 and "more (--json" not in said
        assert found(copy / "results", copy / "usb/copy") == {("moved", "evidence/cut.jpg"), ("added", "0.jpg")}

    @pytest.mark.parametrize(
        ("recorded", "now", "between"),
        [
            ("evidence/a/b.jpg", "usb/copy/evidence/a/b.jpg", ("", "usb/copy")),
            ("evidence/a/b.jpg", "evidence/c/b.jpg", ("evidence/a", "evidence/c")),
            ("evidence/z.zip!/b.jpg", "usb/z.zip!/b.jpg", ("evidence", "usb")),
            ("evidence/a.jpg", "evidence/b.jpg", None),
            ("evidence/a.jpg", "a.jpg", None),
        ],
    )
    def test_the_folders_of_a_move(self, recorded: str, now: str, between: tuple[str, str] | None) -> None:
        assert move(recorded, now) == between

    def test_a_path_that_stands_for_nothing(self, copy: Path, tmp_path: Path, model: Path) -> None:
        """Nothing was compared, and that is not the same as nothing has changed."""
        (tmp_path / "empty").mkdir()
        text = copy / "evidence/words.txt"
        text.write_text("no picture")
        assert found(copy / "results", text) == {("missing", str(text))}
        scan(
            [copy / "evidence/sub", copy / "evidence/a.jpg"],
            tmp_path / "two",
            ScanOptions(model=str(model), device="cpu"),
            SILENT,
        )
        assert found(tmp_path / "two", tmp_path / "empty") == {("missing", str(tmp_path / "empty"))}
        assert found(tmp_path / "two", copy / "evidence/sub", tmp_path / "empty") == {
            ("missing", str(tmp_path / "empty"))
        }

    def test_a_path_without_pictures(self, copy: Path, tmp_path: Path, model: Path) -> None:
        """It was scanned, and there is nothing recorded that it could stand for."""
        (tmp_path / "texts").mkdir()
        (tmp_path / "texts/words.txt").write_text("no picture")
        options = ScanOptions(model=str(model), device="cpu")
        scan([copy / "evidence/sub", tmp_path / "texts"], tmp_path / "two", options, SILENT)
        assert found(tmp_path / "two", copy / "evidence/sub", tmp_path / "texts") == set()


def test_a_file_that_changes_during_its_scan_is_listed_as_it_was_and_as_it_is(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = write_evidence(tmp_path / "evidence")

    def changing(path: Path, hashes: Any) -> Any:
        if path.name == "a.jpg":
            path.write_bytes(b"another")
        return hash_file(path, hashes)

    monkeypatch.setattr(pipeline, "hash_file", changing)
    run = scanned(evidence, tmp_path / "out", model)
    assert run.evidence_unchanged is False
    one = listed(tmp_path / "out/evidence.dfxml")["evidence/a.jpg"]
    assert one.before is not None and one.before.hashes != one.now.hashes and one.now.byte_size == 7
    assert found(tmp_path / "out") == set()
    assert found(tmp_path / "out", evidence) == {("changed", "evidence/a.jpg")}


def test_two_folders_of_one_name(tmp_path: Path, model: Path) -> None:
    folders = [tmp_path / "a/x", tmp_path / "b/x"]
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True)
        (folder / "one.jpg").write_bytes(jpeg(32, 32 + number))
    scan([*folders], tmp_path / "out", ScanOptions(model=str(model), device="cpu"), SILENT)
    assert set(listed(tmp_path / "out/evidence.dfxml")) == {"x/one.jpg", "x~2/one.jpg"}
    for order in (folders, folders[::-1], folders[:1], folders[1:], [tmp_path / "a"]):
        assert found(tmp_path / "out", *order) == set()
    (folders[1] / "one.jpg").unlink()
    assert found(tmp_path / "out", *folders) == {("missing", "x~2/one.jpg")}


def test_a_list_of_paths_and_a_date(tmp_path: Path, model: Path) -> None:
    evidence = write_evidence(tmp_path / "evidence")
    os.utime(evidence / "a.jpg", (0, 0))
    options = ScanOptions(model=str(model), device="cpu", listed=(evidence / "sub/b, c.jpg", evidence / "pages.tif"))
    scan([], tmp_path / "list", options, SILENT)
    shutil.copytree(evidence, tmp_path / "evidence2")
    added = {("added", name) for name in ("a.jpg", "cut.jpg", "case.zip", "case.zip!/x/d.jpg")}
    for place in (evidence, tmp_path / "evidence2"):
        differ = found(tmp_path / "list", place)
        assert {(kind, path[path.index("evidence") :].partition("/")[2]) for kind, path in differ} == added
    chosen = Selection((), (), datetime(2000, 1, 1, tzinfo=UTC).timestamp())
    scanned(evidence, tmp_path / "out", model, selection=chosen, since="2000-01-01T00:00:00+00:00")
    assert found(tmp_path / "out", evidence) == set()


class TestLaterRuns:
    def test_reused_and_not_met(self, copy: Path, model: Path) -> None:
        results, evidence = copy / "results", copy / "evidence"
        before = listed(results / "evidence.dfxml")
        (evidence / "a.jpg").unlink()
        (evidence / "case.zip").unlink()
        run = scanned(evidence, results, model)
        assert run.counts.resumed and run.counts.not_met == 2
        after = listed(results / "evidence.dfxml")
        assert set(after) == set(before)
        assert after["evidence/sub/b, c.jpg"].before is not None  # read in both runs
        assert after["evidence/a.jpg"].before is None
        assert after["evidence/case.zip"].now.hashes["sha256"] == before["evidence/case.zip"].now.hashes["sha256"]
        assert found(results) == set()
        assert {path for kind, path in found(results, evidence) if kind == "missing"} == {
            "evidence/a.jpg",
            "evidence/case.zip",
            "evidence/case.zip!/x/d.jpg",
        }

    def test_records_of_an_earlier_version_get_their_hashes(self, copy: Path, model: Path) -> None:
        results = copy / "results"
        log = (results / "records.jsonl").read_text()
        log = re.sub(r'"written":\[.*?\],', "", log).replace('"schema_version":"2.3"', '"schema_version":"2.2"')
        assert '"written"' not in log
        (results / "records.jsonl").write_text(log)
        run = scanned(copy / "evidence", results, model, hashes=("md5", "sha1"))
        assert run.counts.resumed == 8
        assert found(results, copy / "evidence") == set()
        (results / "masks/evidence/a.jpg.png").write_bytes(b"x")
        assert ("changed", "masks/evidence/a.jpg.png") in found(results)

    def test_overwritten(self, copy: Path, model: Path) -> None:
        scanned(copy / "evidence/sub", copy / "results", model, overwrite=True)
        assert set(listed(copy / "results/evidence.dfxml")) == {"sub/b, c.jpg"}
        assert found(copy / "results") == set()

    def test_interrupted(self, tmp_path: Path, model: Path) -> None:
        evidence, stop = write_evidence(tmp_path / "evidence"), threading.Event()
        stop.set()
        options = ScanOptions(model=str(model), device="cpu")
        with read_secret_key(write_keys(tmp_path)[0]) as key:
            run = scan([evidence], tmp_path / "out", options, SILENT, stop, key)
        assert run.status == "interrupted" and pipeline.NOT_SIGNED in run.warnings
        assert not (tmp_path / "out" / SIGNATURE).exists()
        assert found(tmp_path / "out") == found(tmp_path / "out", evidence) == set()

    def test_failed(self, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        evidence = write_evidence(tmp_path / "evidence")

        def broken(*of_one: object) -> None:
            raise RuntimeError("a defect")

        monkeypatch.setattr(part, "judge", broken)
        options = ScanOptions(model=str(model), device="cpu")
        with read_secret_key(write_keys(tmp_path)[0]) as key, pytest.raises(RuntimeError, match="a defect"):
            scan([evidence], tmp_path / "out", options, SILENT, None, key)
        assert pipeline.NOT_SIGNED in (tmp_path / "out/run.json").read_text()
        assert (tmp_path / "out" / MANIFEST_SUMS).is_file()
        assert found(tmp_path / "out") == set()


def test_a_merge_has_a_manifest_of_its_own(tmp_path: Path, model: Path) -> None:
    evidence = write_evidence(tmp_path / "evidence")
    from clue_cli.evidence.shard import Shard

    parts = [tmp_path / f"part{number}" for number in (1, 2)]
    for number, out in enumerate(parts, 1):
        scanned(evidence, out, model, shard=Shard.parse(f"{number}/2"))
        assert found(out) == found(out, evidence) == set()
    merge(parts, tmp_path / "merged", SILENT)
    assert found(tmp_path / "merged", evidence) == set()
    both = listed(tmp_path / "merged/evidence.dfxml")
    assert both["evidence/a.jpg"].before is not None
    assert both["evidence/case.zip"].before is not None and both["evidence/case.zip"].now.byte_size
    mask = next((tmp_path / "merged/masks").rglob("*.png"))
    mask.unlink()  # it may be a link to that of a part
    mask.write_bytes(b"x")
    assert len(found(tmp_path / "merged")) == 1
    assert found(parts[0]) == found(parts[1]) == set()
