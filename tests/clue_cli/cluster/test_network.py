"""A cluster as one network: answers by key, whatever the order; and the same results as in this process."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clue_cli import app, cluster
from clue_cli.cluster import ItemLost
from clue_cli.cluster.network import ClusterNetwork, Predict
from clue_cli.engine import Budget
from clue_cli.errors import Aborted, ClueError, ExitCode, UsageError
from clue_cli.eval import run
from clue_cli.eval.options import EvalOptions
from clue_cli.eval.results import Results
from clue_cli.networks import DType, Engine, NetworkOptions, Unpredicted, find_devices, find_model, networks_for
from clue_cli.scan import ScanOptions
from model.predictor import OutOfMemory, Prediction
from model.reporter import SILENT
from model.synthetic import describe
from tests.clue_cli.cluster.fake import FakeCluster
from tests.clue_cli.eval.made import picture, write_set
from tests.faults.pictures import encoded, photo

Pixels = NDArray[np.uint8]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    made = FakeCluster()
    monkeypatch.setattr(cluster, "connect", lambda options, warn: made)
    return made


class Scripted:
    """Workers whose answers a test writes."""

    at_once, loading = 3, 1.5

    def __init__(self, run: Callable[[Pixels], Iterator[Any]]) -> None:
        self._run, self.closed = run, threading.Event()

    def workers(self, *_: Any) -> Scripted:
        return self

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed.set()

    def run(self, item: Pixels, size: int) -> Iterator[Any]:
        return self._run(item)


def network(run: Callable[[Pixels], Iterator[Any]]) -> tuple[ClusterNetwork, Scripted]:
    scripted = Scripted(run)
    made: Any = scripted
    checkpoint: Any = None
    return ClusterNetwork(lambda: made, checkpoint, "cpu", NetworkOptions()), scripted


def numbered(number: int) -> Pixels:
    return np.full((2, 2, 3), number, np.uint8)


def said(pixels: Pixels) -> OutOfMemory[None]:
    return OutOfMemory(None, str(pixels[0, 0, 0]))


def test_answers_come_by_key_and_none_waits_for_the_next_image() -> None:
    """The second image is not there before the first is answered; the fourth is, before the third is answered."""
    first, fourth = threading.Event(), threading.Event()

    def run(pixels: Pixels) -> Iterator[Any]:
        if pixels[0, 0, 0] == 3:
            assert fourth.wait(20)
        yield said(pixels)

    def images() -> Iterator[tuple[str, Pixels] | None]:
        yield "1", numbered(1)
        yield None
        assert first.wait(20)
        for number in (2, 3, 4):
            yield str(number), numbered(number)

    found = []
    one, _ = network(run)
    for answer in one.predict(images()):
        assert isinstance(answer, OutOfMemory) and answer.message == answer.key
        found.append(answer.key)
        first.set()
        if answer.key == "4":
            fourth.set()
    assert sorted(found) == ["1", "2", "3", "4"] and found.index("4") < found.index("3")
    assert one.loading == 1.5


def test_an_image_that_kills_workers_is_not_predicted_and_the_rest_is() -> None:
    def run(pixels: Pixels) -> Iterator[Any]:
        if pixels[0, 0, 0] == 1:
            raise ItemLost("Worker processes died 2 times with this image in them.")
        yield said(pixels)
        if pixels[0, 0, 0] == 2:
            raise ItemLost("It died behind the answer.")

    one, _ = network(run)
    found = {answer.key: answer for answer in one.predict((n, numbered(n)) for n in range(4))}
    assert found.keys() == set(range(4))
    assert found[1] == Unpredicted(1, "Worker processes died 2 times with this image in them.")
    assert [found[n] for n in (0, 2, 3)] == [OutOfMemory(n, str(n)) for n in (0, 2, 3)]


def test_an_error_of_the_workers_or_of_the_images_ends_it() -> None:
    def run(pixels: Pixels) -> Iterator[Any]:
        if pixels[0, 0, 0] == 2:
            raise ClueError("No worker is left.")
        yield said(pixels)

    def broken() -> Iterator[tuple[int, Pixels]]:
        yield 1, numbered(1)
        raise Aborted

    with pytest.raises(ClueError, match="No worker is left"):
        list(network(run)[0].predict((n, numbered(n)) for n in range(9)))
    with pytest.raises(Aborted):
        list(network(run)[0].predict(broken()))


def test_abort_ends_what_waits_for_a_worker() -> None:
    def run(pixels: Pixels) -> Iterator[Any]:
        assert scripted.closed.wait(20)
        raise Aborted
        yield

    one, scripted = network(run)
    threading.Timer(0.2, one.abort).start()
    with pytest.raises(Aborted):
        list(one.predict([(1, numbered(1))]))
    with pytest.raises(Aborted):
        list(one.predict([(1, numbered(1))]))
    unused, other = network(run)
    unused.stop()
    unused.abort()
    assert not other.closed.is_set()


def test_the_same_answers_as_in_this_process(fake: FakeCluster, model: Path) -> None:
    """Both questions; nothing but the options of the network travels, and no pixels come back."""
    options = ScanOptions(
        engine=Engine.RAY, ray_workers=2, model=str(model), device="cpu", synthetic="traces", files_from="a long list"
    )
    devices, dtype = find_devices(options, DType.BFLOAT16)
    assert devices == ("cpu",)
    checkpoint, method = find_model(options.model), describe("traces")
    images = [(n, picture(n, (90 + 30 * n, 130))) for n in range(3)]
    answers = []
    for chosen in (options, NetworkOptions(model=options.model, device="cpu", synthetic="traces")):
        with networks_for(checkpoint, devices, dtype, chosen, pytest.fail, method) as (one,):
            assert (one.asked, one.loading) == (0, 0.0)
            answers.append({answer.key: answer for answer in one.predict(images)})
            assert one.loading > 0
            assert [a.key for a in one.predict(images[1:2])] == [1]  # again, by the same workers
    (workers,) = fake.made
    assert (workers.items, workers.entered, workers.exited) == (4, 1, 1)
    assert workers.options == NetworkOptions(
        model=options.model, device="cpu", synthetic="traces", dtype=DType.BFLOAT16, ray_workers=2
    )
    for key, _ in images:
        ours, local = answers[0][key], answers[1][key]
        assert isinstance(ours, Prediction) and isinstance(local, Prediction)
        assert np.array_equal(ours.heatmap, local.heatmap) and np.array_equal(ours.features, local.features)
        assert (ours.seed, ours.tile_count) == (local.seed, local.tile_count)
        assert pickle.dumps(ours.synthetic) == pickle.dumps(local.synthetic)


def test_what_comes_back_has_no_pixels() -> None:
    pixels = picture(0, (200, 200))
    (work,) = Predict().decode(pixels, None, Budget(1 << 30))
    assert work.cost >= pixels.nbytes
    answer = Predict().finish(work, OutOfMemory(work, "none left"), "cpu")
    assert answer == OutOfMemory(None, "none left") and len(pickle.dumps(answer)) < 1000


def evaluated(out: Path, **options: Any) -> Results:
    return run.evaluate(out, EvalOptions(device="cpu", dtype=DType.FLOAT32, **options), SILENT)


def without_times(out: Path) -> dict[str, Any]:
    results = json.loads((out / "results.json").read_text())
    for name in ("started", "finished", "timing"):
        del results[name]
    return results


def lines(path: Path) -> list[str]:
    return sorted(path.read_text().splitlines())


def test_a_measurement_gives_the_same_results(fake: FakeCluster, model: Path, tmp_path: Path) -> None:
    options = {"bench": (str(write_set(tmp_path / "set")),), "model": str(model), "attacks": ("none", "jpeg:70")}
    local = evaluated(tmp_path / "local", **options)
    ours = evaluated(tmp_path / "ray", **options, engine=Engine.RAY)
    same_results(tmp_path / "local", tmp_path / "ray")
    assert fake.made[0].items > 14  # seven images under two attacks, and those of the contact sheet
    assert ours.timing.predictions == local.timing.predictions == 14
    assert ours.timing.share_outside_network is None and local.timing.share_outside_network is not None


def same_results(local: Path, ours: Path) -> None:
    assert without_times(ours) == without_times(local)
    for name in ("per_image.csv", "measurements.jsonl"):
        assert lines(ours / name) == lines(local / name)
    for kind in ("contact", "plots"):
        found = {path.name: path.read_bytes() for path in (local / kind).iterdir()}
        assert found and found == {path.name: path.read_bytes() for path in (ours / kind).iterdir()}


@pytest.mark.parametrize("options", [{"methods": ("ela",)}, {"task": "synthetic"}], ids=str)
def test_without_the_network_there_is_nothing_for_a_cluster(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="--engine ray is for the network"):
        evaluated(tmp_path / "out", bench=(str(write_set(tmp_path / "set")),), engine=Engine.RAY, **options)


def test_a_calibration_is_the_same_file(fake: FakeCluster, model: Path, tmp_path: Path) -> None:
    same_calibration(photos(tmp_path), model, tmp_path)
    assert fake.made[0].items == 12


def photos(folder: Path) -> Path:
    made = folder / "photos"
    made.mkdir()
    for number in range(12):
        (made / f"{number:02}.jpg").write_bytes(encoded(photo(96, 96 + 8 * number, seed=number), "JPEG"))
    (made / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    return made


def same_calibration(authentic: Path, model: Path, out: Path, *words: str) -> None:
    common = ["calibrate", "--authentic", str(authentic), "--model", str(model), "--device", "cpu", "--fpr", "0.1"]
    common += ["--dtype", "float32", "--quiet"]
    made = []
    for name, more in (("local.json", []), ("ray.json", ["--engine", "ray", *words])):
        assert app.run([*common, "--out", str(out / name), *more]) == ExitCode.SOME_FAILED
        made.append(json.loads((out / name).read_text()))
        assert made[-1].pop("created")
    assert made[0] == made[1]


def test_a_method_is_calibrated_in_this_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--authentic", str(tmp_path), "--out", str(tmp_path / "c.json"), "--task", "synthetic", "--engine", "ray"]
    assert app.run(["calibrate", *words]) == ExitCode.BAD_USAGE
    assert "runs in this process" in capsys.readouterr().err


class TestOnTwoNodes:
    """With Ray, on two nodes of this machine."""

    def test_a_measurement_and_a_calibration(self, joined: Any, two_nodes: Any, model: Path, tmp_path: Path) -> None:
        options = {"bench": (str(write_set(tmp_path / "set")),), "model": str(model)}
        evaluated(tmp_path / "local", **options)
        ours = evaluated(tmp_path / "ray", **options, engine=Engine.RAY, ray_address=two_nodes.address)
        same_results(tmp_path / "local", tmp_path / "ray")
        assert ours.timing.predictions == 7 and ours.timing.loading_seconds > 0
        same_calibration(photos(tmp_path), model, tmp_path, "--ray-address", two_nodes.address)

    def test_a_lost_node_costs_no_answer(self, joined: Any, two_nodes: Any, model: Path) -> None:
        options = NetworkOptions(engine=Engine.RAY, ray_address=two_nodes.address, model=str(model), device="cpu")
        devices, dtype = find_devices(options, DType.FLOAT32)
        images = [(n, picture(n, (200, 300))) for n in range(16)]
        heatmaps: dict[int, NDArray[np.float32]] = {}
        said: list[str] = []
        with networks_for(find_model(options.model), devices, dtype, options, said.append) as (one,):
            for answer in one.predict(images):
                assert isinstance(answer, Prediction) and answer.key not in heatmaps
                heatmaps[answer.key] = answer.heatmap
                if len(heatmaps) == 3:
                    two_nodes.remove_node(two_nodes.worker_nodes.copy().pop(), allow_graceful=False)
                    two_nodes.add_node(num_cpus=1, object_store_memory=100 << 20)
        assert heatmaps.keys() == set(range(16))
        assert any("was lost with its node" in text for text in said)
        alone = replace(options, engine=Engine.LOCAL)
        with networks_for(find_model(options.model), devices, dtype, alone, pytest.fail) as (one,):
            for answer in one.predict(images):
                assert isinstance(answer, Prediction) and np.array_equal(answer.heatmap, heatmaps[answer.key])

    @pytest.mark.parametrize("address", [None, "auto"])
    def test_ray_address_is_heeded_with_auto_alone(self, two_nodes: Any, address: str | None) -> None:
        code = (
            "import sys; from clue_cli.cluster import connect; from clue_cli.networks import NetworkOptions;"
            f"connect(NetworkOptions(ray_address={address!r}), print);"
            "import ray; sys.stderr.write('at ' + ray.get_runtime_context().gcs_address + '.')"
        )
        environment = os.environ | {"RAY_ADDRESS": two_nodes.address}
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert ended.returncode == 0, ended.stderr
        assert (f"at {two_nodes.address}." in ended.stderr) == (address == "auto")
