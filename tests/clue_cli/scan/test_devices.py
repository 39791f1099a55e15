"""A scan with several devices: the records of one device, whatever becomes of the processes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clue_cli.errors import ClueError, ExitCode, UsageError, WeightsError
from clue_cli.networks import Compile, DType, find_devices, processes
from clue_cli.records import RECORD, FailureCode, FailureRecord, ImageRecord, RunRecord
from clue_cli.scan import ScanOptions, pipeline
from model import int8
from model.device import DeviceError
from model.reporter import SILENT, Reporter
from tests.faults.dying_network import FILLS_MEMORY, KILLS
from tests.faults.pictures import oriented_jpeg

Scan = Callable[..., RunRecord]


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    folder = tmp_path / "evidence"
    folder.mkdir()
    return folder


@pytest.fixture
def scan(evidence: Path, tmp_path: Path) -> Scan:
    def run(out: str = "out", progress: Any = None, stop: threading.Event | None = None, **options: Any) -> RunRecord:
        chosen = ScanOptions(**({"devices": ("cpu", "cpu")} | options))
        return pipeline.scan([evidence], tmp_path / out, chosen, progress or SILENT, stop)

    return run


def plain(evidence: Path, *reds: int) -> None:
    """Pictures of one colour each, which `tests.faults.dying_network` reads as what to do."""
    for number, red in enumerate(reds):
        Image.new("RGB", (40, 32), (red, 0, 0)).save(evidence / f"{number:02}.png")


def records(out: Path) -> dict[str, ImageRecord | FailureRecord]:
    found = [RECORD.validate_json(line) for line in (out / "records.jsonl").read_text().splitlines()]
    return {record.locator: record for record in found}


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_WORKER", "tests.faults.dying_network")


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.BFLOAT16])
def test_the_same_bits_as_with_one_device(
    scan: Scan, evidence: Path, model: Path, tmp_path: Path, dtype: DType
) -> None:
    rng = np.random.default_rng(0)
    for number in range(4):
        size = (60 + 40 * number, 150, 3)
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(evidence / f"{number}.png")
    (evidence / "turned.jpg").write_bytes(oriented_jpeg(6))  # goes to a process in rows, to one device as a view
    one = scan("one", model=str(model), devices=(), device="cpu", dtype=dtype)
    two = scan("two", model=str(model), dtype=dtype)
    assert (one.model["device"], two.model["device"]) == ("cpu", "cpu,cpu")
    assert two.status == "finished"
    assert one.counts == two.counts
    pictures = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.png"))
    assert len(pictures) >= 8
    for path in pictures:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes(), path
    alone, shared = records(tmp_path / "one"), records(tmp_path / "two")
    assert alone.keys() == shared.keys()
    for locator, record in shared.items():
        other = alone[locator]
        assert isinstance(record, ImageRecord)
        assert isinstance(other, ImageRecord)
        assert record.model == other.model  # the device that computed it, not all of them
        assert (record.score, record.verdict) == (other.score, other.verdict)
    # Taken over by either from the other.
    assert scan("one", model=str(model), dtype=dtype).counts.resumed == 5


@pytest.mark.usefixtures("dying")
def test_an_image_that_kills_processes_is_a_failure_and_the_rest_is_computed(
    scan: Scan, evidence: Path, tmp_path: Path
) -> None:
    plain(evidence, 10, 20, KILLS, 30, 40, 50, 60, 70)
    run = scan()
    assert (run.status, run.exit_code, run.counts.images, run.counts.failures) == ("finished", 1, 7, 1)
    failure = records(tmp_path / "out")["evidence/02.png"]
    assert isinstance(failure, FailureRecord)
    assert failure.code is FailureCode.INTERNAL_ERROR
    assert "signal SIGKILL" in failure.message
    assert any("it is restarted" in warning for warning in run.warnings)


@pytest.mark.usefixtures("dying")
def test_when_no_device_is_left_the_run_fails_and_can_be_resumed(scan: Scan, evidence: Path, tmp_path: Path) -> None:
    plain(evidence, *range(10, 30, 5), *[KILLS] * 14)
    with pytest.raises(ClueError, match="No device is left") as error:
        scan()
    assert error.value.exit_code == ExitCode.INTERNAL_ERROR
    ended = json.loads((tmp_path / "out" / "run.json").read_text())
    assert ended["status"] == "failed"
    assert any("is given up; the others go on" in warning for warning in ended["warnings"])
    plain(evidence, *range(10, 30, 5), *range(30, 44))
    assert scan().counts.images == 18


@pytest.mark.usefixtures("dying")
def test_what_one_device_cannot_compute_is_left_to_the_others(
    scan: Scan, evidence: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain(evidence, *range(10, 60, 5))
    start = pipeline.networks_for

    @contextmanager
    def one_is_broken(*arguments: Any) -> Iterator[list[Any]]:
        with start(*arguments) as made:
            made[0]._child._setup["model"] = "unstartable"
            yield made

    monkeypatch.setattr(pipeline, "networks_for", one_is_broken)
    run = scan()
    assert (run.status, run.counts.images, run.counts.failures) == ("finished", 10, 0)
    assert any("could not be started: it ended with status 1 (no driver)" in warning for warning in run.warnings)


@pytest.mark.usefixtures("dying")
def test_memory_that_runs_out_is_told_once(scan: Scan, evidence: Path, tmp_path: Path) -> None:
    plain(evidence, 10, FILLS_MEMORY, 30, 40)
    run = scan()
    failure = records(tmp_path / "out")["evidence/01.png"]
    assert isinstance(failure, FailureRecord)
    assert failure.code is FailureCode.OUT_OF_MEMORY
    assert [w for w in run.warnings if "ran out" in w] == [
        "Memory ran out on cpu: 1 tiles are computed at once from here on."
    ]


@pytest.mark.usefixtures("dying")
def test_a_stop_finishes_what_is_in_flight_and_the_next_run_the_rest(scan: Scan, evidence: Path) -> None:
    plain(evidence, *range(10, 110, 5))
    stop = threading.Event()

    class StopAtFirst(Reporter):
        def result(self, record: object) -> None:
            if isinstance(record, ImageRecord):
                stop.set()

    run = scan(progress=StopAtFirst(), stop=stop)
    assert (run.status, run.exit_code) == ("interrupted", 130)
    assert run.counts.images >= 1
    again = scan()
    assert (again.status, again.counts.images) == ("finished", 20)


@pytest.mark.usefixtures("dying")
def test_a_second_signal_ends_the_processes(scan: Scan, evidence: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain(evidence, 10, 20)
    aborted = []
    monkeypatch.setattr(processes.NetworkProcess, "abort", lambda self: aborted.append(self))
    join, interruptions = threading.Thread.join, iter([KeyboardInterrupt()])

    def interrupted(self: threading.Thread, timeout: float | None = None) -> None:
        join(self, timeout)
        if self.name == "clue-network":
            for interruption in interruptions:
                raise interruption

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        scan()
    assert len(aborted) == 2


@pytest.mark.usefixtures("dying")
def test_a_model_that_is_refused_there_ends_the_run(
    scan: Scan, evidence: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain(evidence, 10, 20)
    start = pipeline.networks_for

    @contextmanager
    def refusing(*arguments: Any) -> Iterator[list[Any]]:
        with start(*arguments) as made:
            for process in made:
                process._child._setup["model"] = "missing"
            yield made

    monkeypatch.setattr(pipeline, "networks_for", refusing)
    with pytest.raises(WeightsError, match="There is no model"):
        scan()


@pytest.mark.parametrize(
    ("devices", "named"),
    [
        (("cpu", "cuda:0"), "names both the CPU and a GPU: cpu, cuda:0"),
        (("cuda:1", "cuda:1"), "names cuda:1 twice"),
        (("cpu", "cuda:77"), "there is no device 'cuda:77' here"),
    ],
)
def test_devices_that_make_no_sense_are_refused(
    monkeypatch: pytest.MonkeyPatch, devices: tuple[str, ...], named: str
) -> None:
    def two_cards(name: str, dtype: str) -> tuple[str, str]:
        if name == "cuda:77":
            raise DeviceError(f"there is no device {name!r} here; found: cpu, cuda:0, cuda:1")
        return name, "bfloat16"

    monkeypatch.setattr("model.device.resolve", two_cards)
    options = ScanOptions(devices=devices)
    with pytest.raises(UsageError, match=named):
        find_devices(options, options.dtype)


@pytest.mark.skipif(not int8.works(), reason="this processor or torch does not have the products")
def test_integers_have_records_of_their_own(evidence: Path, tmp_path: Path, scan: Scan) -> None:
    evidence.joinpath("photo.jpg").write_bytes(oriented_jpeg(1))
    runs = [scan(devices=(), device="cpu", dtype=dtype) for dtype in (DType.INT8, DType.INT8, DType.FLOAT32)]
    assert [run.model["dtype"] for run in runs] == ["int8", "int8", "float32"]
    assert [run.counts.resumed for run in runs] == [0, 1, 0]


def test_integers_are_not_compiled(scan: Scan) -> None:
    with pytest.raises(UsageError, match="--compile and --dtype int8 exclude each other"):
        scan(compile=Compile.BLOCKS, devices=(), dtype=DType.INT8)


def test_what_is_compiled_is_not_in_integers_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.device._cpu_has", lambda *names: "avx512_vnni" in names)
    monkeypatch.setattr(int8, "works", lambda: True)
    monkeypatch.setattr("model.device.require_compiler", lambda: None)
    assert find_devices(ScanOptions(device="cpu"), DType.AUTO) == (("cpu",), torch.int8)
    assert find_devices(ScanOptions(device="cpu", compile=Compile.BLOCKS), DType.AUTO) == (("cpu",), torch.float32)


def test_without_a_compiler_compile_is_refused_before_anything_is_written(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++")
    with pytest.raises(UsageError, match=r"There is no C\+\+ compiler here \(/nowhere/g\+\+\)"):
        scan(compile=Compile.BLOCKS, devices=())
    assert not (tmp_path / "out").exists()
