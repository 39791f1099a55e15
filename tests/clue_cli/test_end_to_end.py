"""The product as a whole: the real console script on the real embedded model, judged by the files it leaves.

A scan costs seconds, so each is made once and many tests look at what it left.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import label

from clue_cli.errors import ExitCode
from model.checkpoint import CONFIG_FILE, EMBEDDED
from model.verdict import SMALLEST_REGION
from tests.clue_cli.e2e import Clue, Done, Results, fingerprint, write_tree
from tests.faults import archives, broken_pictures, pictures


def png(seed: int, side: int = 64) -> bytes:
    return pictures.encoded(pictures.photo(side, side, seed=seed), "PNG")


def deep_png() -> bytes:
    return pictures.encoded(Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16), "PNG")


# Name, and the locator below the top folder: hostile names must neither collide nor reach a terminal.
NAMES: dict[str | bytes, str] = {
    b"names/\xff\xfe.png": r"names/\xff\xfe.png",
    "names/new\nline\x1b[2J.png": r"names/new\u000aline\u001b[2J.png",
    "names/\u202egpj.png": r"names/\u202egpj.png",
    "names/<img src=x onerror=alert(1)>.png": "names/<img src=x onerror=alert(1)>.png",
    "names/CON.png": "names/CON.png",
    "names/CASE.png": "names/CASE.png",
    "names/case.png": "names/case.png",
    "names/" + "n" * 251 + ".png": "names/" + "n" * 251 + ".png",
    "names/x.png/x.png": "names/x.png/x.png",
}

# Name, content, size as displayed (width, height).
SOUND: list[tuple[str, bytes, tuple[int, int]]] = [
    ("plain.jpg", pictures.jpeg(96, 80), (96, 80)),
    ("progressive.jpg", pictures.jpeg(progressive=True), (48, 32)),
    ("cmyk.jpg", pictures.encoded(pictures.photo(mode="CMYK"), "JPEG"), (48, 32)),
    ("turned.jpg", pictures.oriented_jpeg(6), (32, 48)),
    ("straight.jpg", pictures.oriented_jpeg(1), (48, 32)),
    ("palette.png", pictures.encoded(pictures.photo().quantize(16), "PNG"), (48, 32)),
    ("alpha.png", pictures.encoded(pictures.photo(mode="RGBA"), "PNG"), (48, 32)),
    ("deep.png", deep_png(), (64, 64)),
    ("p.webp", pictures.encoded(pictures.photo(), "WEBP"), (48, 32)),
    ("p.avif", pictures.encoded(pictures.photo(), "AVIF"), (48, 32)),
    ("p.bmp", pictures.encoded(pictures.photo(), "BMP"), (48, 32)),
    ("film.gif", pictures.gif(), (48, 32)),
    ("lying.png", pictures.jpeg(quality=70), (48, 32)),
    ("dot.png", broken_pictures.one_pixel(), (1, 1)),
    ("exif.jpg", broken_pictures.jpeg_with_hostile_exif(), (48, 32)),
    ("seven.7z!/s.png", b"", (64, 64)),
    ("tree.tar.xz!/a/b.png", b"", (64, 64)),
    ("outer.zip!/inner.zip!/a/b.png", b"", (64, 64)),
    ("outer.zip!/b.png", b"", (64, 64)),
    (r"escape.zip!/\u002e\u002e/\u002e\u002e/escape.png", b"", (64, 64)),
    ("cut.zip!/whole.png", b"", (64, 64)),
]

ARCHIVES: dict[str, bytes] = {
    "tree.tar.xz": archives.tar_of({"a/b.png": png(20)}, "w:xz"),
    "outer.zip": archives.zip_of({"inner.zip": archives.zip_of({"a/b.png": png(21)}), "b.png": png(22)}),
    "escape.zip": archives.zip_of({"../../escape.png": png(23)}),
    "cut.zip": archives.zip_of({"whole.png": png(24), "lost.txt": b"lost"})[:-60],
    "locked.zip": archives.encrypted_zip({"secret.png": png(25)}),
    "deep.zip": archives.nested(4, png(26), "far.png"),
    "old.rar": b"Rar!\x1a\x07\x01\x00" + bytes(64),
}

BAD: dict[str, bytes] = {
    "empty.jpg": b"",
    "text.jpg": broken_pictures.text_named_jpg(),
    "cut.jpg": pictures.jpeg(96, 80)[:300],
    "huge.png": broken_pictures.png_claiming(30_000, 30_000),
    "other.xcf": b"gimp xcf v011\0" + bytes(64),
}

# Locator below the top folder, code, and what message or advice must say.
FAILURES: list[tuple[str, str, str]] = [
    ("empty.jpg", "empty_file", "empty"),
    ("text.jpg", "not_an_image", "its content is not one (text)"),
    ("cut.jpg", "corrupt_image", "ends in the header of the JPEG"),
    ("huge.png", "too_many_pixels", "--max-megapixels"),
    ("other.xcf", "unsupported_format", "xcf"),
    ("cut.zip", "archive_corrupt", "damaged or cut"),
    ("locked.zip!/secret.png", "archive_encrypted", "encrypted"),
    ("deep.zip!/level2.zip!/level1.zip!/level0.zip", "archive_too_deep", "--archive-depth"),
    ("old.rar", "unsupported_format", "RAR archives"),
    ("round", "link_loop", "in a circle"),
    ("up/again", "link_loop", "leads back"),
    ("gone.jpg", "unreadable", "does not exist"),
    ("pipe.jpg", "unreadable", "a pipe"),
    *([] if os.geteuid() == 0 else [("closed.jpg", "unreadable", "ermission")]),
]

PAGES = [("evidence/scan.tif", 0), ("evidence/scan.tif", 1)]
IMAGES = {(f"evidence/{name}", 0) for name, _, _ in SOUND} | {(f"evidence/{name}", 0) for name in NAMES.values()}


@dataclass(frozen=True)
class Scan:
    """A scan that was made: what it was given and what came of it."""

    evidence: Path
    before: dict[bytes, Any]
    done: Done
    results: Results
    words: tuple[str | Path, ...]


@pytest.fixture(scope="session")
def clue(tmp_path_factory: pytest.TempPathFactory) -> Clue:
    return Clue(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="session")
def schemas(clue: Clue) -> dict[str, jsonschema.Draft202012Validator]:
    """What validates a record and what validates run.json, as `clue schema` prints it."""
    found = {}
    for name, words in (("record", []), ("run", ["--run"])):
        schema = json.loads(clue("schema", *words).out)
        jsonschema.Draft202012Validator.check_schema(schema)
        found[name] = jsonschema.Draft202012Validator(schema)
    return found


@pytest.fixture(scope="session")
def case(clue: Clue, tmp_path_factory: pytest.TempPathFactory) -> Scan:
    """Everything that can be wrong with evidence, in one folder, scanned once."""
    root = tmp_path_factory.mktemp("case")
    evidence = root / "evidence"
    write_tree(evidence, {name: content for name, content, _ in SOUND if content} | ARCHIVES | BAD)
    write_tree(evidence, {name: png(30 + number) for number, name in enumerate(NAMES)})
    write_tree(evidence, {"scan.tif": pictures.tiff(2), "notes.txt": b"notes", "closed.jpg": b"closed"})
    evidence.joinpath("closed.jpg").chmod(0)
    if os.geteuid() == 0:  # whom nothing is closed to
        evidence.joinpath("closed.jpg").unlink()
    evidence.joinpath("seven.7z").write_bytes(archives.seven_zip_of({"s.png": png(27)}))
    evidence.joinpath("up").mkdir()
    for link, target in {"round": "round", "up/again": "..", "gone.jpg": "nowhere.jpg"}.items():
        evidence.joinpath(link).symlink_to(target)
    os.mkfifo(evidence / "pipe.jpg")
    before = fingerprint(evidence)
    words = ("scan", evidence, "--out", root / "results", "--follow-links", "--json-lines")
    return Scan(evidence, before, clue(*words), Results(root / "results"), words)


@pytest.fixture(scope="session", params=["float32", "bfloat16"])
def plain(request: pytest.FixtureRequest, clue: Clue, tmp_path_factory: pytest.TempPathFactory) -> Scan:
    """A few pictures in one folder, scanned once in each number format, whichever of them this machine would choose."""
    root = tmp_path_factory.mktemp(request.param)
    evidence = root / "evidence"
    write_tree(evidence, {"20.png": png(20), "plain.jpg": pictures.jpeg(96, 80), "scan.tif": pictures.tiff(2)})
    write_tree(evidence, {"film.gif": pictures.gif()})
    write_tree(evidence, {f"turned{number}.jpg": pictures.oriented_jpeg(number) for number in range(1, 9)})
    words = ("scan", evidence, "--out", root / "results", "--quiet", "--dtype", request.param)
    return Scan(evidence, {}, clue(*words), Results(root / "results"), words)


class TestBadInput:
    """What is bad has a record that says why, the rest is scanned."""

    def test_everything_has_its_record(self, case: Scan, schemas: dict[str, jsonschema.Draft202012Validator]) -> None:
        results = case.results
        assert case.done.code == ExitCode.SOME_FAILED, case.done.err
        assert (results.run["status"], results.run["exit_code"]) == ("finished", 1)
        assert results.run["evidence_unchanged"] is True
        assert set(results.failures) == {f"evidence/{where}" for where, _, _ in FAILURES}
        assert set(results.images) == IMAGES | set(PAGES)
        for record in results.lines:
            schemas["record"].validate(record)
        schemas["run"].validate(results.run)
        for record in results.images.values():
            assert json.loads((results.folder / record["outputs"]["verdict"]).read_bytes()) == record
        rows = {(row["locator"].removeprefix("'"), row["page"]) for row in results.summary}
        assert rows == {(where, "" if page is None else str(page)) for where, page in results.current}
        assert len(results.summary) == len(results.current)
        dot = results.images["evidence/dot.png", 0]
        assert (dot["verdict"], dot["confidence"]) == ("inconclusive", None)
        assert "too small" in dot["reason"]

    def test_stdout_is_the_records_and_stderr_is_for_people(self, case: Scan) -> None:
        said = [json.loads(line) for line in case.done.out.splitlines()]
        assert sorted(said, key=str) == sorted(case.results.lines, key=str)
        assert "Scan finished" in case.done.err
        assert "Traceback" not in case.done.err
        assert "\x1b" not in case.done.err

    @pytest.mark.parametrize(("where", "code", "said"), FAILURES, ids=[where for where, _, _ in FAILURES])
    def test_each_has_its_record(self, case: Scan, where: str, code: str, said: str) -> None:
        record = case.results.failures[f"evidence/{where}"]
        assert record["code"] == code
        assert said in f"{record['message']} {record['advice']}"

    @pytest.mark.parametrize(("where", "size"), [(where, size) for where, _, size in SOUND])
    def test_mask_and_heatmap_are_as_displayed(self, case: Scan, where: str, size: tuple[int, int]) -> None:
        record = case.results.images[f"evidence/{where}", 0]
        assert (record["width"], record["height"]) == size
        mask, heatmap = (Image.open(io.BytesIO(content)) for content in case.results.pictures(record))
        assert (mask.mode, mask.size) == ("L", size)
        assert set(np.unique(np.asarray(mask)).tolist()) <= {0, 255}
        assert (heatmap.mode, heatmap.size) == ("I;16", size)
        above, count = label(np.asarray(heatmap) / 65535 > record["threshold"] + 1e-5, np.ones((3, 3)))
        groups = [above == number for number in range(1, count + 1)]
        whole = [group for group in groups if group.sum() > SMALLEST_REGION]  # 16 bits may round a pixel away
        assert all(np.asarray(mask)[group].all() for group in whole)
        assert np.mean(np.asarray(mask) == 255) == pytest.approx(record["forged_area_ratio"])

    @pytest.mark.parametrize(
        ("where", "finding"),
        [
            ("lying.png", "The name says png, the content is jpeg."),
            (r"escape.zip!/\u002e\u002e/\u002e\u002e/escape.png", "contains '..'"),
            ("film.gif", "--gif-frames all"),
        ],
    )
    def test_oddities_are_findings(self, case: Scan, where: str, finding: str) -> None:
        assert finding in " ".join(
            found["statement"] for found in case.results.images[f"evidence/{where}", 0]["findings"]
        )

    def test_the_counts_add_up(self, case: Scan) -> None:
        counts = case.results.run["counts"]
        assert counts["images"] == len(IMAGES) + 2
        assert counts["images"] == counts["forged"] + counts["no_evidence"] + counts["inconclusive"]
        assert counts["failures"] == len(FAILURES)
        # notes.txt, and the member of the cut zip
        assert (counts["not_pictures"], case.results.run["not_pictures_by_type"]) == (2, {"txt": 2})
        assert (counts["resumed"], counts["not_met"]) == (0, 0)

    def test_every_output_belongs_to_one_record(self, case: Scan) -> None:
        named = [path for r in case.results.images.values() for path in r["outputs"].values() if path]
        assert len(set(map(str.casefold, named))) == len(named)
        there = {
            str(path.relative_to(case.results.folder))
            for part in ("masks", "heatmaps", "verdicts", "previews")
            for path in (case.results.folder / part).rglob("*")
            if path.is_file()
        }
        assert there == set(named)

    def test_the_page_shows_markup_as_text(self, case: Scan) -> None:
        page = (case.results.folder / "index.html").read_text("utf-8")
        assert "onerror=alert(1)" in page
        assert "<img src=x" not in page
        assert broken_pictures.MARKUP not in page

    def test_the_evidence_is_as_it_was(self, case: Scan) -> None:
        assert fingerprint(case.evidence) == case.before
        assert {path.name for path in case.evidence.parent.iterdir()} == {"evidence", "results"}

    def test_the_same_command_takes_everything_over(self, case: Scan, clue: Clue) -> None:
        log, written = case.results.lines, case.results.written()
        again = clue(*case.words, "--quiet")
        assert (again.code, again.err) == (ExitCode.SOME_FAILED, "")
        counts = case.results.run["counts"]
        # What fails before it could be decoded is met again each time, and recorded once.
        undecodable = sum(record["step"] == "decode" for record in case.results.failures.values())
        assert counts["resumed"] == len(IMAGES) + 2 + undecodable
        assert counts["failures"] == len(FAILURES)
        assert case.results.lines == log
        assert case.results.written() == written
        assert sorted(again.out.splitlines()) == sorted(case.done.out.splitlines())
        assert fingerprint(case.evidence) == case.before


class TestDeterminism:
    """The mask of a picture is the same whatever was scanned with it, in whatever order, by however many."""

    def test_a_turned_picture_is_judged_as_the_straight_one(self, plain: Scan) -> None:
        assert plain.done == Done(ExitCode.OK, "", "")
        heatmaps = {}
        for number in range(1, 9):
            record = plain.results.images[f"evidence/turned{number}.jpg", 0]
            heatmaps[number] = np.asarray(Image.open(io.BytesIO(plain.results.pictures(record)[1])))
        turns = {2: (0, True), 3: (2, False), 4: (2, True), 5: (1, True), 6: (-1, False), 7: (-1, True), 8: (1, False)}
        for number, (quarters, mirrored) in turns.items():
            stored = heatmaps[1][:, ::-1] if mirrored else heatmaps[1]
            assert np.array_equal(heatmaps[number], np.rot90(stored, quarters)), number

    def test_in_an_archive_in_reverse_with_other_workers(self, plain: Scan, clue: Clue, tmp_path: Path) -> None:
        parts = [png(20), pictures.jpeg(96, 80), pictures.oriented_jpeg(6), pictures.tiff(2), pictures.gif()]
        reverse = {f"{9 - number}": content for number, content in enumerate(parts)}
        (tmp_path / "all.zip").write_bytes(archives.zip_of(dict(reversed(reverse.items()))))
        words = ["--workers", "3", "--batch", "4", "--gif-frames", "all", "--no-previews", *plain.words[-3:]]
        done = clue("scan", tmp_path / "all.zip", "--out", tmp_path / "out", *words)
        assert done == Done(ExitCode.OK, "", "")
        found, expected = Results(tmp_path / "out").by_content(), plain.results.by_content()
        assert len(found) == 8  # the GIF has two frames more than in the other scan
        assert len(found.keys() & expected.keys()) == 6
        for key in found.keys() & expected.keys():
            assert found[key] == expected[key]

    def test_alone(self, case: Scan, clue: Clue, tmp_path: Path) -> None:
        (tmp_path / "alone.png").write_bytes(png(20))
        assert clue("scan", tmp_path / "alone.png", "-o", tmp_path / "out", "-q") == Done(ExitCode.OK, "", "")
        ((key, files),) = Results(tmp_path / "out").by_content().items()
        assert files == case.results.by_content()[key]


def one_picture(folder: Path) -> Path:
    return write_tree(folder / "evidence", {"one.png": png(1)})


class TestExitCodes:
    """Each ends with its code, one sentence on stderr and nothing on stdout."""

    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            (["{}/absent", "--out", "{}/out"], ExitCode.NOTHING_TO_SCAN, "Not found"),
            (["{}/evidence"], ExitCode.BAD_USAGE, "--out"),
            (["{}/evidence", "--out", "{}/out", "--model", "{}/absent"], ExitCode.WEIGHTS_MISSING, "--model"),
            (["{}/evidence", "--out", "{}/evidence/one.png"], ExitCode.OUTPUT_NOT_WRITABLE, "--out"),
            (["{}/evidence", "--out", "{}/evidence"], ExitCode.BAD_USAGE, "results folder"),
        ],
        ids=["missing path", "no --out", "missing model", "a file in the place of the folder", "out is the evidence"],
    )
    def test_refused_before_anything_is_scanned(
        self, clue: Clue, tmp_path: Path, words: list[str], code: ExitCode, said: str
    ) -> None:
        evidence = one_picture(tmp_path)
        before = fingerprint(evidence)
        done = clue("scan", *[word.format(tmp_path) for word in words])
        assert (done.code, done.out) == (code, ""), done.err
        assert said in done.err
        assert "Traceback" not in done.err
        assert fingerprint(evidence) == before
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("files", "hint"), [({}, "0 files"), ({"a.txt": b"text", ".hidden.png": png(1)}, "--hidden")]
    )
    def test_nothing_to_scan(self, clue: Clue, tmp_path: Path, files: dict[str | bytes, bytes], hint: str) -> None:
        (tmp_path / "evidence").mkdir()
        write_tree(tmp_path / "evidence", files)
        done = clue("scan", tmp_path / "evidence", "--out", tmp_path / "out")
        assert done.code == ExitCode.NOTHING_TO_SCAN
        assert hint in done.err
        run = Results(tmp_path / "out").run
        assert (run["status"], run["exit_code"], run["counts"]["images"]) == ("finished", 3, 0)

    @pytest.mark.parametrize(("threshold", "code"), [(0.0, ExitCode.FORGED_FOUND), (1.0, ExitCode.OK)])
    def test_fail_on_forged(self, clue: Clue, tmp_path: Path, threshold: float, code: ExitCode) -> None:
        model = shutil.copytree(EMBEDDED, tmp_path / "model")
        config = json.loads((model / CONFIG_FILE).read_bytes())
        config["calibration"] |= {
            "pixel_threshold": threshold,
            "score_threshold": threshold,
            "no_evidence_below": threshold,
            "kinds": {},
        }
        (model / CONFIG_FILE).write_text(json.dumps(config))
        words = ["scan", one_picture(tmp_path), "--out", tmp_path / "out", "--model", model, "--fail-on", "forged"]
        assert clue(*words, "--quiet").code == code
        (record,) = Results(tmp_path / "out").images.values()
        assert record["verdict"] == ("forged" if threshold == 0 else "no_evidence")
        low, high = (0.9, 1.0) if threshold == 0 else (0.0, 0.0)  # a few pixels are exactly 0
        assert low <= record["forged_area_ratio"] <= high


class TestResume:
    def test_killed_interrupted_terminated_and_then_completed(
        self, clue: Clue, tmp_path: Path, schemas: dict[str, jsonschema.Draft202012Validator]
    ) -> None:
        evidence = write_tree(tmp_path / "evidence", {f"{number:02}.png": png(number) for number in range(24)})
        out, results = tmp_path / "out", Results(tmp_path / "out")
        done: dict[str, dict[str, Any]] = {}
        for number, code in ((signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 130)):
            known = set(done)
            ended, said = clue.scan_until(lambda r, known=known: r["locator"] not in known, number, evidence, "-o", out)
            assert ended == code, said
            done = {record["locator"]: record for record in results.lines}
            assert len(known) < len(done) < 24
            for record in done.values():
                schemas["record"].validate(record)
                assert all((out / path).is_file() for path in record["outputs"].values() if path)
            run = results.run
            schemas["run"].validate(run)
            if code == 130:
                assert (run["status"], run["exit_code"]) == ("interrupted", 130)
                assert len(results.summary) == len(done)
                assert (out / "index.html").is_file()
        before = results.written()
        assert clue("scan", evidence, "--out", out, "--quiet") == Done(ExitCode.OK, "", "")
        assert len(results.lines) == len(results.current) == 24
        assert results.run["counts"]["resumed"] == len(done)
        assert results.run["counts"]["not_met"] == 0
        after = results.written()
        assert all(
            after[record["outputs"][kind]] == before[record["outputs"][kind]]
            for record in done.values()
            for kind in ("mask", "heatmap", "verdict")
        )
        assert len(list((out / "runs").iterdir())) == 3
        assert not (out / ".tmp").exists()

    def test_changed_content_retried_failures_and_overwriting(self, clue: Clue, tmp_path: Path) -> None:
        evidence = write_tree(tmp_path / "evidence", {"a.png": png(1), "b.png": png(2), "c.png": png(3)[:200]})
        out, results = tmp_path / "out", Results(tmp_path / "out")
        words = ("scan", evidence, "--out", out, "--quiet")
        assert clue(*words).code == ExitCode.SOME_FAILED
        first = results.current
        write_tree(evidence, {"b.png": png(4)})
        assert clue(*words, "--retry-failed").code == ExitCode.SOME_FAILED
        second = results.current
        assert results.run["counts"]["resumed"] == 1
        assert second["evidence/a.png", 0] == first["evidence/a.png", 0]
        assert second["evidence/b.png", 0]["file"] != first["evidence/b.png", 0]["file"]
        assert second["evidence/b.png", 0]["run_id"] == results.run["run_id"]
        assert results.failures["evidence/c.png"]["code"] == "corrupt_image"
        write_tree(evidence, {"c.png": png(3)})
        assert clue(*words, "--overwrite").code == ExitCode.OK
        assert {record["run_id"] for record in results.lines} == {results.run["run_id"]}
        assert (results.run["counts"]["resumed"], len(results.lines)) == (0, 3)


def test_no_run_reached_for_the_network(case: Scan, clue: Clue) -> None:
    code = "import socket; socket.create_connection(('127.0.0.1', 9))"
    assert case.done.out
    assert not clue.network_log.exists(), clue.network_log.read_text()
    tried = subprocess.run([sys.executable, "-c", code], env=clue.environment(), capture_output=True, check=False)
    assert b"the network is off limits" in tried.stderr, "the watch itself does not work"
    clue.network_log.unlink()
