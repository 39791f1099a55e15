"""`clue scan --out s3://…` as a whole, against a server that speaks S3: the same results as in a folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from clue_cli import remote
from clue_cli.app import run as clue
from clue_cli.errors import ExitCode
from clue_cli.remote import parse
from clue_cli.scan import ScanOptions, pipeline
from model.reporter import SILENT
from tests.clue_cli.custody.conftest import found
from tests.clue_cli.e2e import PATIENCE, REPOSITORY, command
from tests.faults.object_server import failing
from tests.faults.pictures import jpeg, tiff
from tests.object_store import ACCESS_KEY, SECRET_KEY, ObjectStore

OUT = "s3://case/results/one"
PICTURES = ("masks", "heatmaps", "previews")


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "evidence"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(jpeg(64, 64, quality=80 + number))
    (folder / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with zipfile.ZipFile(folder / "case.zip", "w") as archive:
        archive.writestr("pages.tif", tiff(2))
    return folder


@pytest.fixture(scope="module")
def local(evidence: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results in a folder."""
    folder = tmp_path_factory.mktemp("local") / "results"
    scan(evidence, folder, model)
    return folder


def scan(evidence: Path, out: Any, model: Path) -> Any:
    return pipeline.scan([evidence], out, ScanOptions(model=str(model), device="cpu"), SILENT)


def download(store: ObjectStore, to: Path) -> Path:
    for key in store.keys("case", "results/one/"):
        path = to / key.removeprefix("results/one/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.get("case", key))
    return to


def records(folder: Path) -> dict[tuple[str, int | None], dict[str, Any]]:
    """The records but for the run, its time, and where the evidence lay."""
    lines = [json.loads(line) for line in (folder / "records.jsonl").read_bytes().splitlines()]
    assert not [key for key, number in Counter((line["locator"], line["page"]) for line in lines).items() if number > 1]
    return {
        (line["locator"], line["page"]): {key: line[key] for key in line if key not in ("run_id", "seconds")}
        for line in lines
    }


def pictures(folder: Path) -> dict[str, bytes]:
    paths = [path for name in PICTURES for path in (folder / name).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


# The request at which the process is killed, which is not carried out.
@pytest.mark.parametrize(
    "moment", [None, *(pytest.param(moment, marks=pytest.mark.slow) for moment in ("/verdicts/", "/records.jsonl"))]
)
def test_a_url_gets_what_a_folder_gets(
    evidence: Path,
    model: Path,
    local: Path,
    object_store: ObjectStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    moment: str | None,
) -> None:
    object_store.bucket()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if moment is not None:
        killed_at(moment, evidence, model, tmp_path, monkeypatch)
        left = object_store.keys("case", "results/one/")
        assert "results/one/.clue.lock" in left
        assert "results/one/summary.csv" not in left
    run = scan(evidence, parse(OUT), model)
    assert run.status == "finished"
    copy = download(object_store, tmp_path / "copy")
    assert found(copy, evidence) == set()
    assert records(copy) == records(local)
    assert pictures(copy) == pictures(local)
    assert {path.name for path in copy.iterdir()} == {path.name for path in (local).iterdir()} - {".clue.lock"} | (
        {"runs"} if moment else set()
    )
    assert b"previews/" in (copy / "index.html").read_bytes()
    secrets = (ACCESS_KEY.encode(), SECRET_KEY.encode())
    assert not [
        path for path in copy.rglob("*") if path.is_file() and any(word in path.read_bytes() for word in secrets)
    ]
    if moment is None:
        read_by_its_url(copy, object_store, tmp_path, capfd)


def killed_at(moment: str, evidence: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processes: list[subprocess.Popen[bytes]] = []
    seen = 0

    def kill(method: str, path: str) -> int | None:
        nonlocal seen
        seen += method == "PUT" and moment in path
        if method == "PUT" and moment in path and (seen > 2 or moment == "/records.jsonl"):
            os.kill(processes[0].pid, signal.SIGKILL)
            return 503
        return None

    with failing() as server:
        server.refuse = kill
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server.port}",
            "XDG_CACHE_HOME": str(tmp_path / "another machine"),
        }
        words = ["scan", str(evidence), "--out", OUT, "--model", str(model), "--device", "cpu", "--quiet"]
        processes.append(subprocess.Popen([*command(), *words], env=environment))
        assert processes[0].wait(PATIENCE) == -signal.SIGKILL


def read_by_its_url(copy: Path, store: ObjectStore, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    for results in (str(copy), OUT):
        assert clue(["export", results, "--format", "jsonl"]) == ExitCode.OK
    both = capfd.readouterr().out.splitlines()
    assert both[: len(both) // 2] == both[len(both) // 2 :] != []
    assert clue(["query", OUT, "select count(*) as n from images", "--format", "csv"]) == ExitCode.OK
    assert capfd.readouterr().out.split() == ["n", "5"]
    assert clue(["report", OUT, "--only", "failure", "--name", "broken"]) == ExitCode.OK
    assert f"Page: {OUT}/broken.html" in capfd.readouterr().err
    assert b"cut.png" in store.get("case", "results/one/broken.html")
    assert "results/one/.clue.lock" not in store.keys("case")
    assert clue(["export", "s3://case/nothing"]) == ExitCode.NOTHING_TO_SCAN
    assert "no results of clue scan in s3://case/nothing" in capfd.readouterr().err
    for words in (["merge", OUT, "--out", str(tmp_path / "merged")], ["explain", OUT, "--model", "m"]):
        assert clue(words) == ExitCode.BAD_USAGE
        assert "is a URL" in capfd.readouterr().err
    store.put("case", f"results/one/records.parts/{10**9:016d}.jsonl", b"")
    copy.joinpath("records.parts").mkdir()
    copy.joinpath("records.parts", f"{10**9:016d}.jsonl").write_bytes(b"")
    assert clue(["export", str(copy)]) == ExitCode.NOTHING_TO_SCAN
    assert "whose scan has not ended" in capfd.readouterr().err


def test_no_permission(
    evidence: Path,
    model: Path,
    object_store: ObjectStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from s3fs import S3FileSystem

    object_store.bucket()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "ATTEMPTS", 1)
    with failing() as server:
        server.refuse = lambda method, path: 403 if method == "PUT" else None
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server.port}")
        S3FileSystem.clear_instance_cache()
        words = ["scan", str(evidence), "--out", OUT, "--model", str(model), "--device", "cpu"]
        assert clue(words) == ExitCode.OUTPUT_NOT_WRITABLE
    S3FileSystem.clear_instance_cache()
    shown = capfd.readouterr().err
    assert "access is denied" in shown
    assert "may not write" in shown
    assert object_store.keys("case") == []
