"""Tampering with a results folder: verification names what was changed, every time."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clue_cli.app import run as clue
from clue_cli.custody.findings import Findings
from clue_cli.custody.signature import read_public_key
from clue_cli.custody.verify import verify
from clue_cli.errors import ExitCode, NothingToScanError
from clue_cli.records import ImageRecord, RunRecord
from clue_cli.results.explanations import Explanation, ExplanationLog, record_digest
from clue_cli.results.manifest_names import ADDITIONS, LISTED_IN_SUMS, MANIFEST_SUMS, SIGNATURE
from clue_cli.results.reader import ResultsReader
from tests.clue_cli.custody.conftest import beside, found, write_results
from tests.clue_cli.custody.signing import write_keys
from tests.clue_cli.results.made import image, open_store, put

MASK = "masks/evidence/a.jpg.png"
VERDICT = "verdicts/evidence/a.jpg.json"
Flip = Callable[[Path, int], None]


def sign_anew(results: Path) -> None:
    """Make manifest.sha256 fit the four lists, as who forges a manifest does."""
    lines = [f"{hashlib.sha256((results / name).read_bytes()).hexdigest()}  {name}\n" for name in LISTED_IN_SUMS]
    (results / MANIFEST_SUMS).write_text("".join(lines))


def replace_in(path: Path, old: str, new: str) -> None:
    content = path.read_bytes()
    assert old.encode() in content
    path.write_bytes(content.replace(old.encode(), new.encode()))


def test_an_untouched_folder_is_as_recorded(written: Path) -> None:
    assert found(written) == set()
    with Findings() as findings:
        verified = verify(written, findings)
    files = [
        path for path in written.rglob("*") if path.is_file() and path.name not in (*LISTED_IN_SUMS, MANIFEST_SUMS)
    ]
    assert verified.files == len([path for path in files if path.name != ".clue.lock"]) > 20
    assert verified.bytes == sum(path.stat().st_size for path in files)
    assert verified.evidence is None


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_byte_anywhere(written: Path, data: st.DataObject) -> None:
    files = sorted(path for path in written.rglob("*") if path.is_file() and path.stat().st_size)
    path = data.draw(st.sampled_from(files))
    content = path.read_bytes()
    place, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    try:
        path.write_bytes(changed)
        assert path.relative_to(written).as_posix() in {named for _, named in found(written)}
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize(
    "name", [MASK, VERDICT, "records.jsonl", "run.json", "summary.csv", "index.html", *LISTED_IN_SUMS, MANIFEST_SUMS]
)
class TestEachFile:
    def test_changed(self, results: Path, name: str, flip: Flip) -> None:
        flip(results / name, (results / name).stat().st_size // 2)
        kinds = {kind for kind, path in found(results) if path == name}
        # In manifest.sha256 a hash may be none any more ("a" is "`" then), or it is not known which of two is right.
        assert kinds in ({"changed"}, {"contradiction"}) if name == MANIFEST_SUMS else "changed" in kinds

    def test_missing(self, results: Path, name: str) -> None:
        (results / name).unlink()
        assert ("missing", name) in found(results)

    def test_cut(self, results: Path, name: str) -> None:
        os.truncate(results / name, (results / name).stat().st_size - 1)
        assert ("changed", name) in found(results)

    def test_a_link_in_its_place(self, results: Path, name: str, tmp_path: Path) -> None:
        shutil.move(results / name, tmp_path / "elsewhere")
        (results / name).symlink_to(tmp_path / "elsewhere")
        assert ("changed", name) in found(results)

    def test_a_pipe_in_its_place(self, results: Path, name: str) -> None:
        (results / name).unlink()
        os.mkfifo(results / name)
        assert ("changed", name) in found(results)

    def test_a_folder_in_its_place(self, results: Path, name: str) -> None:
        (results / name).unlink()
        (results / name).mkdir()
        assert ("changed", name) in found(results)


@pytest.mark.parametrize(
    ("old", "new", "kind"), [("0", "1", "contradiction"), ("a", "`", "changed"), ("a", "A", "changed")]
)
def test_a_digit_of_the_sums(results: Path, old: str, new: str, kind: str) -> None:
    replace_in(results / MANIFEST_SUMS, old, new)
    assert {kind for kind, path in found(results) if path == MANIFEST_SUMS} == {kind}


class TestAdded:
    @pytest.mark.parametrize("name", ["foreign.txt", "masks/evidence/z.png", "new/deep/x", ".hidden", "runs/x.json"])
    def test_a_file(self, results: Path, name: str) -> None:
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_bytes(b"x")
        assert found(results) == {("added", name)}

    def test_hostile_names(self, results: Path) -> None:
        for name in (b"line\nbreak", b"\xff\xfe", b"\x1b[2J", "‮gpj.exe".encode()):
            (Path(os.fsdecode(os.fsencode(results) + b"/" + name))).write_bytes(b"")
        assert len(found(results)) == 4
        assert {kind for kind, _ in found(results)} == {"added"}

    def test_no_files(self, results: Path) -> None:
        (results / "link").symlink_to("/etc/passwd")
        (results / "loop").symlink_to(results)
        os.mkfifo(results / "pipe")
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(results / "s"))
        assert found(results) == {("added", name) for name in ("link", "loop", "pipe", "s")}

    def test_a_folder_of_pictures_that_is_a_link(self, results: Path, tmp_path: Path) -> None:
        shutil.move(results / "masks", tmp_path / "masks")
        (results / "masks").symlink_to(tmp_path / "masks")
        assert ("changed", MASK) in found(results) and ("added", "masks") in found(results)

    def test_content_in_the_lock(self, results: Path) -> None:
        (results / ".clue.lock").write_bytes(b"message")
        assert found(results) == {("added", ".clue.lock")}

    def test_what_a_desktop_leaves(self, results: Path) -> None:
        (results / "masks/.DS_Store").write_bytes(b"x")
        assert (found(results), beside(results)) == (set(), {("system", "masks/.DS_Store")})


def explain(results: Path) -> None:
    with ResultsReader(results) as reader:
        record = next(record for record in reader.records() if isinstance(record, ImageRecord))
    explanation = Explanation(
        record=record_digest(record),
        locator=record.locator,
        page=0,
        sha256=record.file.sha256,
        settings_digest=record.settings_digest,
        status="accepted",
        text="One region is marked.",
        model="test",
        model_digest="0" * 64,
        request_sha256="0" * 64,
        generation={},
        version="1",
        made="2026-01-01T00:00:00+00:00",
        seconds=1,
    )
    with ExplanationLog(results / "explanations.jsonl") as log:
        log.append(explanation)


class TestAfterwards:
    def test_a_page_of_clue_report(self, results: Path) -> None:
        assert clue(["report", str(results), "--only", "forged", "--name", "forged"]) == 0
        assert (found(results), beside(results)) == (set(), {("afterwards", "forged.html")})
        (results / "forged.html").write_text("no evidence")
        assert found(results) == {("changed", "forged.html")}

    @pytest.mark.parametrize("name", ["case.pdf", "Fall 17, Müller (Kopie).pdf"])
    def test_a_pdf_in_the_folder(self, results: Path, name: str) -> None:
        pytest.importorskip("typst")
        assert clue(["report", str(results), "--pdf", str(results / name)]) == 0
        assert (found(results), beside(results)) == (set(), {("afterwards", name)})
        with (results / name).open("ab") as stream:
            stream.write(b"x")
        assert found(results) == {("changed", name)}

    def test_a_pdf_of_which_it_is_not_known(self, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
        pytest.importorskip("typst")
        assert clue(["report", str(results), "--pdf", str(results / "$x.pdf")]) == 0
        assert "will call the PDF added" in capsys.readouterr().err
        assert found(results) == {("added", "$x.pdf")}

    def test_the_same_page_once_more(self, results: Path) -> None:
        assert clue(["report", str(results)]) == 0
        assert found(results) == set()

    def test_a_page_with_explanations(self, results: Path) -> None:
        before = (results / "index.html").read_bytes()
        explain(results)
        assert clue(["report", str(results)]) == 0
        assert (results / "index.html").read_bytes() != before
        assert found(results) == set()
        assert beside(results) == {("afterwards", "index.html"), ("afterwards", "explanations.jsonl")}

    def test_a_pdf_among_the_results(self, results: Path, capfd: pytest.CaptureFixture[str]) -> None:
        pytest.importorskip("typst", reason="the extra pdf is not installed")
        assert clue(["report", str(results), "--pdf", str(results / "case.pdf")]) == 0
        assert found(results) == set()
        assert beside(results) == {("afterwards", "case.pdf")}
        assert "Warning" not in capfd.readouterr().err

        assert clue(["report", str(results), "--pdf", str(results / "masks" / "case.pdf")]) == 0
        assert "clue verify will call the PDF added" in capfd.readouterr().err
        assert found(results) == {("added", "masks/case.pdf")}

    def test_a_page_that_says_that_clue_report_wrote_it(self, results: Path) -> None:
        assert clue(["report", str(results)]) == 0
        page = (results / "index.html").read_bytes() + b"<p>harmless</p>"
        (results / "index.html").write_bytes(page)
        addition = json.loads((results / "additions.jsonl").read_text().splitlines()[0])
        addition |= {"sha256": hashlib.sha256(page).hexdigest(), "byte_size": len(page)}
        (results / "additions.jsonl").write_text(json.dumps(addition, separators=(",", ":")) + "\n")
        assert found(results) == {("changed", "index.html")}

    def test_damaged_additions(self, results: Path) -> None:
        (results / "additions.jsonl").write_text('{"path": "../x"}\n')
        assert found(results) == {("changed", "additions.jsonl")}

    def test_notes_and_explanations(self, results: Path) -> None:
        (results / "notes.jsonl").write_text("{}\n")
        (results / "explanations.jsonl").write_text("{}\n")
        assert found(results) == set()
        assert beside(results) == {("afterwards", "notes.jsonl"), ("afterwards", "explanations.jsonl")}


def test_a_log_of_notes_that_the_manifest_lists_may_only_grow(tmp_path: Path) -> None:
    with open_store(tmp_path / "out"):
        (tmp_path / "out/notes.jsonl").write_text('{"note": "a"}\n')
    write_results(tmp_path / "out", "evidence/a.jpg")
    with (tmp_path / "out/notes.jsonl").open("a") as notes:
        notes.write('{"note": "b"}\n')
    assert (found(tmp_path / "out"), beside(tmp_path / "out")) == (set(), {("afterwards", "notes.jsonl")})
    (tmp_path / "out/notes.jsonl").write_text('{"note": "c"}\n{"note": "b"}\n')
    assert found(tmp_path / "out") == {("changed", "notes.jsonl")}


class TestForgedManifest:
    """The hashes of all lists fit: what is in them must not lead out of the folder, and contradictions are found."""

    @pytest.mark.parametrize(
        "name", ["../outside", "/etc/passwd", "masks/../../outside", "masks//x", "./run.json", "a\\b", "a\x1b[2Jb", ""]
    )
    def test_names_that_lead_elsewhere(self, results: Path, name: str) -> None:
        (results.parent / "outside").write_bytes(b"secret")
        digest = hashlib.sha256(b"secret").hexdigest()
        with (results / "manifest.hashdeep").open("a") as lines:
            lines.write(f"6,{digest},{name}\n")
        sign_anew(results)
        assert ("changed", "manifest.hashdeep") in found(results)

    def test_bytes_that_are_no_text(self, results: Path) -> None:
        with (results / "manifest.hashdeep").open("ab") as lines:
            lines.write(b"1," + b"0" * 64 + b",\xff\n" + b"\0" * 100 + b"\n1,2\n" + b"x" * (3 << 20))
        sign_anew(results)
        assert {path for kind, path in found(results) if kind == "changed"} == {"manifest.hashdeep"}

    def test_a_file_that_one_list_has(self, results: Path) -> None:
        replace_in(results / "manifest.hashdeep", MASK, "masks/other.png")
        sign_anew(results)
        assert {("contradiction", MASK), ("contradiction", "masks/other.png"), ("missing", "masks/other.png")} <= found(
            results
        )

    def test_a_mask_with_its_hashes(self, results: Path, flip: Flip) -> None:
        old = hashlib.sha256((results / MASK).read_bytes()).hexdigest()
        flip(results / MASK, 30)
        new = hashlib.sha256((results / MASK).read_bytes()).hexdigest()
        for name in ("manifest.hashdeep", "manifest.dfxml"):
            replace_in(results / name, old, new)
        sign_anew(results)
        assert ("contradiction", MASK) in found(results)  # the log knows it

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"<dfxml/>",
            b"not xml",
            b"<?xml version='1.0' encoding='TTF-8'?><dfxml/>",
            b"<?xml version='1.0' encoding='utf-7'?><dfxml/>",
            b"<?xml version='1.0' encoding='shift_jis'?><dfxml/>",
            b"<!DOCTYPE a [<!ENTITY b 'c'>]><dfxml>&b;</dfxml>",
            b"<dfxml xmlns='http://www.forensicswiki.org/wiki/Category:Digital_Forensics_XML'><fileobject/></dfxml>",
            b"<a>" * 5000,
        ],
    )
    def test_another_dfxml(self, results: Path, content: bytes) -> None:
        for name in ("manifest.dfxml", "evidence.dfxml"):
            (results / name).write_bytes(content)
        sign_anew(results)
        assert {("changed", "manifest.dfxml"), ("changed", "evidence.dfxml")} <= found(results)

    def test_a_hash_of_evidence(self, results: Path) -> None:
        digest = hashlib.sha256(b"evidence/a.jpg").hexdigest()
        replace_in(results / "evidence.hashdeep", digest, "0" * 64)
        sign_anew(results)
        assert found(results) == {("contradiction", "evidence/a.jpg")}
        replace_in(results / "evidence.dfxml", digest, "0" * 64)
        sign_anew(results)
        assert found(results) == {("contradiction", "evidence/a.jpg")}  # the log knows it


class TestNothingToVerify:
    def refused(self, folder: Path) -> str:
        with Findings() as findings, pytest.raises(NothingToScanError) as error:
            verify(folder, findings)
        return str(error.value)

    def test_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"x")
        (tmp_path / "empty").mkdir()
        (tmp_path / "other").mkdir()
        (tmp_path / "other/x").write_bytes(b"x")
        assert "does not exist" in self.refused(tmp_path / "none")
        assert "is a file" in self.refused(tmp_path / "file")
        assert "is empty" in self.refused(tmp_path / "empty")
        assert "no results" in self.refused(tmp_path / "other")

    def test_while_a_scan_writes(self, results: Path) -> None:
        with FileLock(results / ".clue.lock"):
            assert "writing" in self.refused(results)
        assert found(results) == set()

    def test_after_a_scan_was_killed(self, tmp_path: Path) -> None:
        with open_store(tmp_path / "out") as store:
            put(store, image())
        assert "was killed" in self.refused(tmp_path / "out")

    def without_manifest(self, results: Path) -> None:
        for name in (*LISTED_IN_SUMS, MANIFEST_SUMS):
            (results / name).unlink()

    def test_an_older_version(self, results: Path) -> None:
        self.without_manifest(results)
        replace_in(results / "run.json", '"schema_version": "2.3"', '"schema_version": "2.2"')
        assert "wrote no manifest" in self.refused(results)

    def test_a_newer_version(self, results: Path) -> None:
        old = hashlib.sha256((results / "run.json").read_bytes()).hexdigest()
        replace_in(results / "run.json", '"schema_version": "2.3"', '"schema_version": "9.3"')
        assert found(results) == {("changed", "run.json")}  # that is no newer version, but a change
        for name in ("manifest.hashdeep", "manifest.dfxml"):
            replace_in(results / name, old, hashlib.sha256((results / "run.json").read_bytes()).hexdigest())
        sign_anew(results)
        assert "newer version" in self.refused(results)
        self.without_manifest(results)
        assert "newer version" in self.refused(results)

    def test_records_of_a_newer_version(self, results: Path) -> None:
        """They are what was recorded; that they are not wholly understood is said."""
        log, listed = results / "records.jsonl", ("manifest.hashdeep", "manifest.dfxml")
        old = hashlib.sha256(log.read_bytes()).hexdigest()
        replace_in(log, '"schema_version":"2.3"', '"schema_version":"9.3"')
        for name in listed:
            replace_in(results / name, old, hashlib.sha256(log.read_bytes()).hexdigest())
        sign_anew(results)
        with Findings() as findings:
            notes = verify(results, findings).notes
            assert findings.differences == 0
        assert [note for note in notes if "newer" in note] == [
            "4 lines of records.jsonl were written by a newer version of clue (schema 9.3; this one knows 2.3). They "
            "are read as this version understands records, and what it does not know may be missing. Update clue."
        ]

    def test_a_manifest_that_was_removed(self, results: Path) -> None:
        self.without_manifest(results)
        assert found(results) == {("missing", name) for name in (*LISTED_IN_SUMS, MANIFEST_SUMS)}

    def test_half_a_copy(self, results: Path) -> None:
        shutil.rmtree(results / "previews")
        missing = found(results)
        assert missing and {kind for kind, _ in missing} == {"missing"}
        assert all(path.startswith("previews/") for _, path in missing)


class TestTheNextRun:
    def test_it_takes_the_manifest_away_until_its_end(self, results: Path) -> None:
        with open_store(results):
            assert not [path.name for path in results.iterdir() if path.name.startswith("manifest.")]
        assert not [path for path in (results / "runs").iterdir() if path.is_dir()]

    def signed(self, results: Path) -> str:
        """Sign, let another run go on in the folder, and return where the signed manifest is then."""
        secret, _ = write_keys(results.parent)
        assert clue(["sign", str(results), "--key", str(secret)]) == 0
        assert clue(["report", str(results), "--name", "page"]) == 0
        former = RunRecord.model_validate_json((results / "run.json").read_bytes())
        write_results(results, "evidence/new.jpg")
        return f"runs/{former.run_id}"

    def test_a_signed_manifest_is_kept(self, results: Path) -> None:
        content = {name: (results / name).read_bytes() for name in LISTED_IN_SUMS}
        where = self.signed(results)
        assert {name: (results / where / name).read_bytes() for name in LISTED_IN_SUMS} == content
        assert {path.name for path in (results / where).iterdir()} == {*content, MANIFEST_SUMS, SIGNATURE, ADDITIONS}
        with Findings() as findings:
            public = read_public_key(results.parent / "examiner.pub")
            verified = verify(results, findings, key=public)
            assert {(one.kind.value, one.path) for one in findings.all()} == {("signature", SIGNATURE)}  # the new one
        assert any(note.startswith(f"Earlier manifest, {where}: Signature:") for note in verified.notes)
        assert found(results) == set()

    @pytest.mark.parametrize("name", [MANIFEST_SUMS, SIGNATURE, "manifest.hashdeep"])
    def test_a_changed_one(self, results: Path, name: str, flip: Flip) -> None:
        where = self.signed(results)
        flip(results / where / name, 70)
        assert ("changed", f"{where}/{name}") in found(results)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
    @pytest.mark.parametrize("names", [[SIGNATURE], [MANIFEST_SUMS, "manifest.hashdeep"]])
    def test_a_pipe_in_the_place_of_one_is_not_waited_for(self, results: Path, names: list[str]) -> None:
        where = self.signed(results)
        for name in names:
            (results / where / name).unlink()
            if name == MANIFEST_SUMS:
                (results / where / name).symlink_to(results / MANIFEST_SUMS)
            else:
                os.mkfifo(results / where / name)
        command = [sys.executable, "-m", "clue_cli", "verify", str(results), "--json", "--quiet"]
        done = subprocess.run(command, capture_output=True, timeout=120, check=False)
        assert done.returncode == (ExitCode.NOT_ATTESTED if names == [SIGNATURE] else ExitCode.SOME_FAILED)
        assert {f"{where}/{name}" for name in names} <= {one["path"] for one in json.loads(done.stdout)["findings"]}

    def test_what_it_signed_of_the_log(self, results: Path, tmp_path: Path) -> None:
        """Somebody changed a record before the next run, whose manifest then fits."""
        secret, _ = write_keys(tmp_path)
        assert clue(["sign", str(results), "--key", str(secret)]) == 0
        replace_in(results / "records.jsonl", '"score":0.', '"score":0.0')
        write_results(results, "evidence/new.jpg")
        assert ("changed", "records.jsonl") in found(results)

    def test_a_run_that_was_killed_while_it_set_it_aside(self, results: Path) -> None:
        former = RunRecord.model_validate_json((results / "run.json").read_bytes())
        (results / f"runs/{former.run_id}").mkdir(parents=True)
        (results / f"runs/{former.run_id}" / SIGNATURE).write_bytes(b"x")
        write_results(results, "evidence/new.jpg")
        assert (results / f"runs/{former.run_id}" / MANIFEST_SUMS).is_file()

    def test_overwriting_removes_it(self, results: Path) -> None:
        where = self.signed(results)
        with open_store(results, overwrite=True):
            assert not (results / where).exists()


class TestCommand:
    def test_codes_and_json(self, results: Path, capsys: pytest.CaptureFixture[str], flip: Any) -> None:
        assert clue(["verify", str(results), "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["as_recorded"] is True and said["findings"] == [] and said["files"] > 20
        flip(results / MASK, 3)
        (results / "x\x1b[2J\n").write_bytes(b"")
        assert clue(["verify", str(results), "--json"]) == 1
        shown = capsys.readouterr()
        assert {(one["kind"], one["path"]) for one in json.loads(shown.out)["findings"]} == {
            ("changed", MASK),
            ("added", "x\x1b[2J\n"),
        }
        assert MASK in shown.err and "\x1b" not in shown.err and "2 differences" in shown.err

    def test_wrong_usage(self, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert clue(["verify"]) == 2
        assert clue(["verify", "s3://bucket/results"]) == 2
        assert clue(["verify", str(results), "--evidence", str(results / "none")]) == 3
        assert clue(["verify", str(results / "none")]) == 3
        assert "does not exist" in capsys.readouterr().err


def test_additions_are_not_written_through_a_link(results: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (results / ADDITIONS).symlink_to(tmp_path / "mine.txt")
    assert clue(["report", str(results), "--name", "page"]) == ExitCode.OUTPUT_NOT_WRITABLE
    assert (tmp_path / "mine.txt").read_text() == "mine"
