"""The middle of a scan in another process: it travels, its records are those of a scan here, and nothing gets lost."""

from __future__ import annotations

import dataclasses
import pickle
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import clue_cli.cluster
from clue_cli.cluster import ItemLost
from clue_cli.engine import Budget
from clue_cli.evidence.streams import DecodeLimits
from clue_cli.networks import Engine, NetworkOptions, networks_for
from clue_cli.records import RECORD, FailureCode, FailureRecord, ImageRecord, ModelInfo, RunRecord
from clue_cli.scan import ScanOptions, pipeline
from clue_cli.scan.calibration_file import OwnCalibration
from clue_cli.scan.part import Encoded, Output, ScanPart
from model.calibration import Calibration
from model.checkpoint import Checkpoint
from model.device import resolve
from model.query import Query
from model.reporter import SILENT
from model.synthetic import Method
from tests.clue_cli.calibrations import made
from tests.clue_cli.evidence.test_thumbnail import PICTURE, thumbnail, with_thumbnail
from tests.clue_cli.fake_method import describe, register, write_method
from tests.clue_cli.results.made import identity
from tests.faults.archives import zip_of
from tests.faults.pictures import jpeg, oriented_jpeg, tiff

Scan = Callable[..., RunRecord]


def sent(thing: Any) -> Any:
    """As it arrives in another process."""
    return pickle.loads(pickle.dumps(thing))


class FakeWorkers:
    """One worker, which gets everything and gives everything through pickle.

    Attributes:
        seen: locators of the items that came.
        lost: the locator of an item that dies after its first page.
    """

    def __init__(self, part: ScanPart, checkpoint: Checkpoint, options: NetworkOptions, method: Method | None) -> None:
        assert type(options) is NetworkOptions
        self.part, self.at_once, self.loading = sent(part), 2, 0.0
        checkpoint, options, method = sent((checkpoint, options, method))
        dtype = resolve("cpu", options.dtype.value)[1]
        self._network = networks_for(checkpoint, ("cpu",), dtype, options, print, method)
        self._pool = self.part.open(1)
        self._one = threading.Lock()
        self.seen: list[str] = []
        self.lost = ""

    def __enter__(self) -> FakeWorkers:
        (self.network,) = self._network.__enter__()
        self._pool.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
        self._network.__exit__(None, None, None)

    def close(self) -> None:
        self._pool.close()

    def run(self, item: Encoded, size: int) -> Iterator[Output]:
        self.seen.append(item.locator)
        assert size == len(item.data)
        with self._one:
            for number, work in enumerate(self.part.decode(sent(item), self._pool, Budget(1 << 30))):
                if item.locator == self.lost and number:
                    raise ItemLost("Three workers died one after the other with this file.")
                answer, device = None, ""
                if work.for_network is not None:
                    (answer,) = self.network.predict([(work, work.for_network)])
                    device = self.network.device
                yield sent(self.part.finish(work, answer, device))


class FakeCluster:
    """Attributes: workers: those of the latest run; prepare: called with them."""

    workers_now: FakeWorkers

    def __init__(self) -> None:
        self.prepare: Callable[[FakeWorkers], None] = lambda workers: None

    def find_device(self, options: Any) -> tuple[str, Any]:
        return resolve("cpu", options.dtype.value)

    def workers(self, *arguments: Any) -> FakeWorkers:
        self.workers_now = FakeWorkers(*arguments)
        self.prepare(self.workers_now)
        return self.workers_now


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    made = FakeCluster()

    def connect(options: Any, warn: Callable[[str], None]) -> FakeCluster:
        warn("An old cluster.")
        return made

    monkeypatch.setattr(clue_cli.cluster, "connect", connect)
    monkeypatch.setattr(pipeline, "connect", connect)
    return made


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    folder = tmp_path / "evidence"
    folder.mkdir()
    cropped = PICTURE.crop((80, 60, 432, 324))
    whole = jpeg(200, 160)
    files = {
        "a.jpg": oriented_jpeg(6),
        "b.tif": tiff(3),
        "c.jpg": with_thumbnail(cropped, thumbnail(PICTURE.resize((160, 120)))),
        "cut.jpg": whole[: len(whole) * 9 // 10],
        "cut.tif": tiff(3)[: len(tiff(3)) * 2 // 3],
        "no.jpg": whole[:300],
        "case.zip": zip_of({"x/a.jpg": jpeg(64, 64), "two.jpg": jpeg(96, 80) + jpeg(96, 80, quality=60)}),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def scan(model: Path, evidence: Path, tmp_path: Path) -> Scan:
    def run(out: str, engine: Engine = Engine.RAY, stop: threading.Event | None = None, **options: Any) -> RunRecord:
        chosen = ScanOptions(model=str(model), device="cpu", engine=engine, **options)
        return pipeline.scan([evidence], tmp_path / out, chosen, SILENT, stop)

    return run


def lines(out: Path) -> list[ImageRecord | FailureRecord]:
    return [RECORD.validate_json(line) for line in (out / "records.jsonl").read_text().splitlines()]


def told(out: Path) -> dict[Any, Any]:
    """The records but for run and times, and every picture, by its name."""
    records = {(record.locator, record.page): record.model_dump(exclude={"run_id", "seconds"}) for record in lines(out)}
    folders = ("masks", "heatmaps", "previews", "panels", "synthetic")
    files = [path for folder in folders for path in (out / folder).rglob("*") if path.is_file()]
    return records | {path.relative_to(out): path.read_bytes() for path in files}


def records_of(everything: dict[Any, Any]) -> dict[Any, Any]:
    return {key: value for key, value in everything.items() if isinstance(key, tuple)}


def test_workers_write_what_a_scan_here_writes(
    scan: Scan, cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch)
    how = {"panels": True, "synthetic": str(write_method(tmp_path / "method"))}
    here = scan("here", Engine.LOCAL, **how)
    there = scan("there", ray_workers=1, ray_address="head:6379", **how)
    found = told(tmp_path / "there")
    assert found == told(tmp_path / "here")
    assert {str(path.parts[0]) for path in found if isinstance(path, Path)} >= {"masks", "panels", "synthetic"}
    assert there.counts == here.counts
    assert (there.evidence_unchanged, there.settings_digest) == (True, here.settings_digest)
    added = {"engine": "ray", "ray_address": "head:6379", "ray_workers": 1}
    assert there.settings == {**here.settings, **added}
    assert "An old cluster." in there.warnings
    # Each engine takes over what the other has written.
    assert (
        scan("here", **how).counts.resumed
        == scan("there", Engine.LOCAL, **how).counts.resumed
        == len(lines(tmp_path / "here"))
    )
    assert cluster.workers_now.seen == []


def test_a_run_that_was_stopped_here_goes_on_there(
    scan: Scan, cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each record is computed once: by one engine up to the third picture, by the other from there."""
    scan("whole", Engine.LOCAL)
    whole = records_of(told(tmp_path / "whole"))
    for first, second in ((Engine.LOCAL, Engine.RAY), (Engine.RAY, Engine.LOCAL)):
        stop, out = threading.Event(), f"from-{first}"
        write = pipeline.ResultStore.write_image

        def third(self: Any, record: Any, pictures: Any, write: Any = write, stop: threading.Event = stop) -> Any:
            written = write(self, record, pictures)
            if written.locator == "evidence/b.tif" and written.page == 0:
                stop.set()
            return written

        with monkeypatch.context() as patch:
            patch.setattr(pipeline.ResultStore, "write_image", third)
            assert scan(out, first, stop).status == "interrupted"
        before = lines(tmp_path / out)
        finished = {(record.locator, record.page) for record in before}
        assert ("evidence/b.tif", 0) in finished and len(finished) < len(whole)
        assert scan(out, second).status == "finished"
        after = lines(tmp_path / out)
        # A file of several pages that was stopped among them is computed again as a whole.
        pages = Counter(locator for locator, _ in whole)
        begun = Counter(locator for locator, _ in finished)
        torn = sum(count for locator, count in begun.items() if count < pages[locator])
        assert len(after) == len(whole) + torn
        assert records_of(told(tmp_path / out)) == whole


def test_a_file_that_kills_workers_is_a_failure_beside_its_pages(
    scan: Scan, cluster: FakeCluster, tmp_path: Path
) -> None:
    cluster.prepare = lambda workers: setattr(workers, "lost", "evidence/b.tif")
    run = scan("out")
    assert (run.status, run.evidence_unchanged) == ("finished", True)
    found = {(record.locator, record.page): record for record in lines(tmp_path / "out")}
    lost = found["evidence/b.tif", None]
    assert isinstance(lost, FailureRecord) and isinstance(found["evidence/b.tif", 0], ImageRecord)
    assert (lost.code, lost.other_pages) == (FailureCode.INTERNAL_ERROR, 1)
    assert lost.message.startswith("Three workers died") and "--retry-failed" in str(lost.advice)
    cluster.prepare = lambda workers: None
    assert scan("out").counts.resumed == len(found)
    assert cluster.workers_now.seen == []
    again = scan("out", retry_failed=True)
    assert "evidence/b.tif" in cluster.workers_now.seen
    assert ("evidence/b.tif", 2) in {(record.locator, record.page) for record in lines(tmp_path / "out")}
    assert again.counts.failures == 2, "of what is damaged"


def test_evidence_that_changes_meanwhile_is_said(scan: Scan, cluster: FakeCluster, evidence: Path) -> None:
    def tamper(workers: FakeWorkers) -> None:
        run = workers.run

        def tampered(item: Encoded, size: int) -> Iterator[Output]:
            if item.locator == "evidence/b.tif":
                with (evidence / "b.tif").open("ab") as file:
                    file.write(b"\0")
            return run(item, size)

        workers.run = tampered  # type: ignore[method-assign]

    cluster.prepare = tamper
    run = scan("out")
    assert run.evidence_unchanged is False
    (changed,) = [
        record
        for record in lines(evidence.parent / "out")
        if isinstance(record, FailureRecord) and record.code is FailureCode.CHANGED_DURING_SCAN
    ]
    assert (changed.locator, changed.other_pages) == ("evidence/b.tif", 3)


def test_the_pictures_of_a_large_photo_are_those_of_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of its own changes neither the heatmap's bytes nor its place among them."""
    pixels, heatmap = np.full((96, 128, 3), 90, np.uint8), np.linspace(0, 1, 96 * 128, dtype=np.float32)
    heatmap = heatmap.reshape(96, 128)
    photo: Any = SimpleNamespace(
        in_full=lambda map_: map_, displayed=lambda map_: map_, pixels=pixels, not_examined=(), thumbnail=None
    )
    part: Any = SimpleNamespace(heatmaps=True, previews=True)
    alone = ScanPart._pictures(part, photo, heatmap, heatmap > 0.5, None)
    monkeypatch.setattr("clue_cli.scan.part.LARGE", 1)
    aside = ScanPart._pictures(part, photo, heatmap, heatmap > 0.5, None)
    assert list(aside.items()) == list(alone.items()) and aside["heatmap"].startswith(b"\x89PNG")
    monkeypatch.setattr("clue_cli.scan.part.encode_heatmap", lambda _: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError):
        ScanPart._pictures(part, photo, heatmap, heatmap > 0.5, None)


def test_a_part_and_what_it_makes_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)
    content = made()
    own = OwnCalibration(name="calib.json", sha256="e" * 64, content=content)
    like = ModelInfo(
        name="m", digest="d" * 64, device="cpu", dtype="float32", noise_schedule="rf", noise_levels=[], seed=0
    )
    part = ScanPart(
        limits=DecodeLimits(max_pages=2),
        all_frames=True,
        model=like,
        tile=dataclasses.replace(pipeline.find_model("mini").preset.tile),
        calibration=own.applied_to(Calibration(name="tiny")),
        own=own,
        method=describe(str(write_method(tmp_path / "method"))),
        own_second=own,
        query=Query("a forged date", "f" * 64, ("a note",)),
    )
    assert sent(part) == part
    pool = part.open(1)
    with pool:
        (page,) = part.decode(Encoded("a.jpg", jpeg()[:300], identity()), pool, Budget(1))
    output = part.finish(page, None, "")
    assert sent(output) == output and isinstance(output.record, FailureRecord)
    assert (page.for_network, output.for_network, output.cost) == (None, None, 0)
