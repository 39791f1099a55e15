"""A scan on a real Ray cluster of two nodes: the results of a scan here, whatever dies meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from clue_cli.cluster import connection
from clue_cli.networks import Engine
from clue_cli.records import RunRecord
from clue_cli.results.reader import read_run
from clue_cli.scan import ScanOptions, pipeline
from model.reporter import SILENT
from tests.clue_cli.cluster.conftest import STORE, two_nodes
from tests.clue_cli.custody.conftest import found
from tests.clue_cli.scan.test_part import lines, told
from tests.faults.archives import zip_of
from tests.faults.pictures import encoded, jpeg, oriented_jpeg, photo, tiff

Scan = Callable[..., RunRecord]
__all__ = ["two_nodes"]


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray") / "evidence"
    folder.mkdir()
    for number in range(16):
        (folder / f"{number:02}.png").write_bytes(encoded(photo(150 + 9 * number, 120, seed=number), "PNG"))
    whole = jpeg(200, 160)
    files = {
        "turned.jpg": oriented_jpeg(6),
        "pages.tif": tiff(5),
        "cut.jpg": whole[: len(whole) * 9 // 10],
        "no.jpg": whole[:300],
        "case.zip": zip_of({"x/a.jpg": jpeg(64, 64), "two.jpg": jpeg(96, 80) + jpeg(96, 80, quality=60)}),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def here(evidence: Path, model: Path) -> Path:
    """The results of a scan in this process."""
    out = evidence.with_name("here")
    pipeline.scan([evidence], out, ScanOptions(model=str(model), device="cpu"), SILENT)
    return out


@pytest.fixture
def scan(evidence: Path, model: Path, tmp_path: Path, two_nodes: Any) -> Iterator[Scan]:
    def run(progress: Any = SILENT, **options: Any) -> RunRecord:
        chosen = ScanOptions(model=str(model), engine=Engine.RAY, ray_address=two_nodes.address, **options)
        return pipeline.scan([evidence], tmp_path / "out", chosen, progress)

    yield run
    if connection._current is not None:
        connection._current.leave()


def assert_whole(out: Path, here: Path) -> None:
    """All records and pictures of a scan here are there, once."""
    assert told(out) == told(here)
    assert len(lines(out)) == len(lines(here))


def test_two_nodes_write_what_a_scan_here_writes(scan: Scan, here: Path, tmp_path: Path) -> None:
    run = scan()
    assert_whole(tmp_path / "out", here)
    former = read_run(here / "run.json")
    assert former is not None
    assert (run.status, run.counts, run.settings_digest) == ("finished", former.counts, former.settings_digest)
    assert run.evidence_unchanged is True
    assert found(tmp_path / "out") == set()


def test_a_node_that_is_killed_costs_nothing(
    scan: Scan, here: Path, two_nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doomed = two_nodes.add_node(num_cpus=1, object_store_memory=STORE)
    write, written = pipeline.ResultStore.write_image, []

    def killing(self: Any, *arguments: Any) -> Any:
        written.append(arguments)
        if len(written) == 6:
            two_nodes.remove_node(doomed, allow_graceful=False)
        return write(self, *arguments)

    monkeypatch.setattr(pipeline.ResultStore, "write_image", killing)
    assert scan().status == "finished"
    assert_whole(tmp_path / "out", here)


def test_a_driver_that_is_killed_is_resumed(
    scan: Scan, here: Path, evidence: Path, model: Path, two_nodes: Any, tmp_path: Path
) -> None:
    code = (
        "import sys; from pathlib import Path; from clue_cli.networks import Engine\n"
        "from clue_cli.scan import ScanOptions, pipeline; from model.reporter import SILENT\n"
        "if __name__ == '__main__':\n"
        "    evidence, out, model, address = sys.argv[1:]\n"
        "    options = ScanOptions(model=model, engine=Engine.RAY, ray_address=address)\n"
        "    pipeline.scan([Path(evidence)], Path(out), options, SILENT)\n"
    )
    out = tmp_path / "out"
    driver = subprocess.Popen([sys.executable, "-c", code, evidence, out, model, two_nodes.address])
    log, until = out / "records.jsonl", time.monotonic() + 300
    while not log.is_file() or log.read_bytes().count(b"\n") < 5:
        assert time.monotonic() < until and driver.poll() is None
        time.sleep(0.05)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    before = lines(out)
    assert 5 <= len(before) < len(lines(here))
    run = scan()
    assert told(out) == told(here)
    pages = sum(record.locator.endswith(("pages.tif", "two.jpg")) for record in before)
    assert len(lines(out)) - len(lines(here)) <= pages, "only a file of which pages were missing is computed again"
    assert run.counts.resumed >= len(before) - pages
