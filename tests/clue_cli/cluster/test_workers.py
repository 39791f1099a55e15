"""Workers on a real cluster of two nodes: nothing is lost, nothing is doubled, nobody waits for ever."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from clue_cli.cluster import ItemLost, slots
from clue_cli.cluster.connection import RayCluster
from clue_cli.cluster.worker import WorkerFailed
from clue_cli.cluster.workers import RayWorkers
from clue_cli.errors import Aborted, ClueError, WeightsError
from clue_cli.networks import DType, NetworkOptions, find_model
from clue_cli.networks.local import LocalNetwork
from model.predictor import Prediction
from tests.clue_cli.cluster.conftest import STORE
from tests.clue_cli.cluster.toys import PicturePart, Toy

MakeWorkers = Callable[..., RayWorkers]


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    """A test that takes long fails; it does not hang."""

    def late(number: int, frame: object) -> None:
        raise TimeoutError("the test took more than two minutes")

    former = signal.signal(signal.SIGALRM, late)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, former)


def run_all(workers: RayWorkers, items: list[Toy]) -> dict[str, list[str] | BaseException]:
    """What came of each item, by its name, or why nothing did."""

    def one(item: Toy) -> list[str] | BaseException:
        try:
            return sorted(workers.run(item, 1000))
        except Exception as error:
            return error

    with ThreadPoolExecutor(workers.at_once) as threads:
        return dict(zip((item.name for item in items), threads.map(one, items), strict=True))


def complete(item: Toy) -> list[str]:
    return sorted(f"{item.name}/{number}" for number in range(item.outputs))


def pids(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir() if path.name.isdigit()]


def test_a_killed_process_costs_a_retry_and_no_output_comes_twice(toy_workers: MakeWorkers, tmp_path: Path) -> None:
    workers = toy_workers()
    large = bytes(3 << 20)
    items = [Toy(str(number), 1 + number % 5, 0.02, padding=large if number % 7 == 0 else b"") for number in range(60)]
    items[20] = Toy("20", 3, does="killed once")
    assert run_all(workers, items) == {item.name: complete(item) for item in items}
    assert (tmp_path / "killed").exists()
    workers.close()
    deadline = time.monotonic() + 20
    while any(psutil.pid_exists(pid) for pid in pids(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(psutil.pid_exists(pid) for pid in pids(tmp_path))


@pytest.mark.parametrize(("loss", "how"), [(slots.Loss.CRASH, "died"), (slots.Loss.MEMORY, "ran out of memory")])
def test_an_item_that_kills_workers_is_the_only_one_that_fails(
    toy_workers: MakeWorkers, monkeypatch: pytest.MonkeyPatch, loss: slots.Loss, how: str
) -> None:
    monkeypatch.setattr("clue_cli.cluster.workers.how_lost", lambda error: loss)
    items = [Toy(str(number), 2, 0.02) for number in range(30)]
    items[7] = Toy("7", does="exit")
    found = run_all(toy_workers(), items)
    lost = found.pop("7")
    assert isinstance(lost, ItemLost) and f"{how} 2 times with this file alone in it" in str(lost)
    assert found == {item.name: complete(item) for item in items if item.name != "7"}


def test_a_node_that_dies_costs_a_retry_and_one_that_joins_gets_workers(
    toy_workers: MakeWorkers, two_nodes: Any, tmp_path: Path
) -> None:
    said: list[str] = []
    workers = toy_workers()
    workers._slots._warn = said.append
    items = [Toy(str(number), 3, 0.1) for number in range(100)]
    node = next(iter(two_nodes.worker_nodes))

    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(run_all, workers, items)
        while len(workers._slots.ready()) < 2:
            time.sleep(0.1)
        time.sleep(1)
        two_nodes.remove_node(node, allow_graceful=False)
        two_nodes.add_node(num_cpus=1, object_store_memory=STORE)
        found = running.result()
    assert found == {item.name: complete(item) for item in items}
    assert any("with its node" in text for text in said)
    new = {each.node_id for each in two_nodes.worker_nodes}
    deadline = time.monotonic() + 30
    while {crew.slot.node.id for crew in workers._slots.ready()} != new and time.monotonic() < deadline:
        time.sleep(0.2)
    assert {crew.slot.node.id for crew in workers._slots.ready()} == new


def test_a_defect_in_the_part_is_raised_with_its_text(toy_workers: MakeWorkers) -> None:
    with pytest.raises(WorkerFailed, match="ValueError: a bug in the part") as raised:
        list(toy_workers().run(Toy("bad", does="raise"), 1))
    assert "toys.py" in str(raised.value.__cause__)


def test_close_ends_whoever_waits(toy_workers: MakeWorkers) -> None:
    workers = toy_workers()
    threading.Timer(8, workers.close).start()
    started = time.monotonic()
    found = run_all(workers, [Toy(str(number), 10, 3) for number in range(8)])
    assert all(isinstance(error, Aborted) for error in found.values())
    assert time.monotonic() - started < 20


def test_an_iterator_that_is_closed_drops_the_rest_of_its_item(toy_workers: MakeWorkers) -> None:
    workers = toy_workers(ray_workers=1)
    outputs = workers.run(Toy("long", 1000, 0.05), 1)
    assert next(outputs) == "long/0"
    outputs.close()  # type: ignore[attr-defined]
    started = time.monotonic()
    assert list(workers.run(Toy("next"), 1)) == ["next/0"]
    assert time.monotonic() - started < 10


def test_workers_that_cannot_start_end_the_run_with_the_reason(toy_workers: MakeWorkers, tmp_path: Path) -> None:
    (tmp_path / "refuse").touch()
    with pytest.raises(WorkerFailed, match="no pool today"):
        list(toy_workers().run(Toy("one"), 1))


def test_a_slot_where_workers_die_again_and_again_is_given_up(
    toy_workers: MakeWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "PATIENCE", 1.0)
    workers = toy_workers(ray_workers=1)
    found = run_all(workers, [Toy(str(number), does="exit") for number in range(6)])
    ended = next(error for error in found.values() if not isinstance(error, ItemLost))
    assert isinstance(ended, ClueError) and "died" in ended.message and ended.advice == slots.CONTINUES


def test_a_node_without_the_weights_is_given_up_and_the_others_go_on(toy_workers: MakeWorkers, two_nodes: Any) -> None:
    said: list[str] = []
    bare = two_nodes.add_node(num_cpus=1, object_store_memory=STORE, env_vars={"TOY_WITHOUT_WEIGHTS": "1"})
    try:
        workers = toy_workers()
        workers._slots._warn = said.append
        items = [Toy(str(number), 2, 0.1) for number in range(100)]
        assert run_all(workers, items) == {item.name: complete(item) for item in items}
        workers.close()
        assert [text for text in said if f"(node {bare.node_id[:8]}): No model at /models/x. Copy it." in text]
    finally:
        two_nodes.remove_node(bare)


def test_no_node_with_the_weights_is_the_error_itself(joined: RayCluster) -> None:
    checkpoint = replace(find_model("mini"), digest="0" * 64)
    options = NetworkOptions(dtype=DType.FLOAT32)
    with joined.workers(PicturePart(), checkpoint, options) as workers, pytest.raises(WeightsError, match="another"):
        list(workers.run(b"", 1))


def test_heatmaps_are_those_of_the_local_engine_to_the_bit(joined: RayCluster) -> None:
    """There two tiles are computed at a time, one on each core; here a worker has one core."""
    import torch

    pictures = [np.random.default_rng(seed).integers(0, 256, (300, 200, 3), np.uint8) for seed in range(3)]
    checkpoint, options = find_model("mini"), NetworkOptions(dtype=DType.FLOAT32)
    former = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        local = LocalNetwork(checkpoint, "cpu", torch.float32, options)
        expected = [answer.heatmap for answer in local.predict(enumerate(pictures)) if isinstance(answer, Prediction)]
        assert local.load().lanes == 2
    finally:
        torch.set_num_threads(former)
    with joined.workers(PicturePart(), checkpoint, options) as workers:
        for picture, heatmap in zip(pictures, expected, strict=True):
            assert [np.array_equal(found, heatmap) for found in workers.run(picture, picture.nbytes)] == [True]
        assert workers.loading > 0


def test_no_node_is_large_enough(toy_workers: MakeWorkers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "PATIENCE", 1.0)
    with pytest.raises(ClueError, match="no node with 64 cores"):
        list(toy_workers(ray_cores=64).run(Toy("one"), 1))


def test_what_a_run_waits_for_is_said(
    toy_workers: MakeWorkers, joined: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that sends nothing, and cores that another run holds."""
    monkeypatch.setattr(slots, "SILENT", 1.0)
    monkeypatch.setattr(slots, "PATIENCE", 1.0)
    said: list[str] = []
    joined.warn = said.append
    first, second = toy_workers(), toy_workers()
    assert list(first.run(Toy("slow", 1, 4.0), 1)) == ["slow/0"]
    assert any("has sent nothing for" in text and "ray::Worker" in text for text in said)
    said.clear()
    waiting = second.run(Toy("held up"), 1)
    threading.Timer(6, first.close).start()
    assert list(waiting) == ["held up/0"]
    assert any("wait for free cores on the cluster, which other runs may hold" in text for text in said)


def test_a_full_object_store_slows_the_run_and_then_ends_it(
    toy_workers: MakeWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    real, calls = ray.put, [0]

    def full(value: Any) -> Any:
        calls[0] += 1
        if calls[0] % 2:
            raise ray.exceptions.ObjectStoreFullError("no room")
        return real(value)

    monkeypatch.setattr(ray, "put", full)
    item = Toy("large", padding=bytes(1 << 20))
    workers = toy_workers()
    assert list(workers.run(item, 1 << 20)) == ["large/0"]
    monkeypatch.setattr("clue_cli.cluster.workers._FULL", 1)
    monkeypatch.setattr(ray, "put", lambda value: (_ for _ in ()).throw(ray.exceptions.OutOfDiskError("no room")))
    with pytest.raises(ClueError, match="object store of the cluster is full"):
        list(workers.run(item, 1 << 20))
