"""A network in another process answers like one here; when it dies, every image still has one answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clue_cli.errors import Aborted, ClueError, UsageError, WeightsError
from clue_cli.networks.processes import NetworkLost, NetworkProcess, Unpredicted
from model.calibration import image_features
from model.prediction import OutOfMemory, Prediction
from tests.faults.dying_network import FILLS_MEMORY, KILLS, KILLS_ONCE, RAISES

Image = tuple[int, np.ndarray[Any, Any]]


def images(*reds: int, size: tuple[int, int] = (4, 6)) -> list[Image | None]:
    return [(number, np.full((*size, 3), red, np.uint8)) for number, red in enumerate(reds)]


made: list[NetworkProcess[int]] = []


def network(warnings: list[str], model: str = "fake") -> NetworkProcess[int]:
    made.append(NetworkProcess({"device": "cuda:1", "model": model}, warnings.append, "tests.faults.dying_network"))
    return made[-1]


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    while made:
        made.pop().stop()


def test_it_answers_like_a_predictor() -> None:
    warnings: list[str] = []
    process = network(warnings)
    results = list(process.predict(images(10, 20, 30, 40, 50)))
    assert [result.key for result in results] == [0, 1, 2, 3, 4]
    for result, red in zip(results, (10, 20, 30, 40, 50), strict=True):
        assert isinstance(result, Prediction)
        assert np.array_equal(result.heatmap, np.full((4, 6), red / 255, np.float32))
        pixels = np.full((4, 6, 3), red, np.uint8)
        assert np.array_equal(result.features, image_features(result.heatmap, pixels))
        assert (result.seed, result.tile_count, result.seconds) == (7, 1, 0.5)
    assert (process.device, process.batch, warnings) == ("cuda:1", 2, [])


def test_it_stays_until_it_is_stopped() -> None:
    process = network([])
    assert len([list(process.predict(images(10, 20))) for _ in range(3)]) == 3
    pid = process._child._process and process._child._process.pid
    assert [result.key for result in process.predict(images(30))] == [0]
    assert process._child._process is not None and process._child._process.pid == pid
    process.stop()
    assert process._child._process is None
    assert [result.key for result in process.predict(images(30))] == [0]


def test_large_images_do_not_block_the_pipes() -> None:
    results = list(network([]).predict(images(*range(12), size=(700, 900))))
    assert [result.key for result in results] == list(range(12))


def test_what_is_begun_is_finished_before_waiting() -> None:
    pulled: list[int] = []

    def coming() -> Iterator[Image | None]:
        for number, image in enumerate([*images(10), None, *images(20)]):
            pulled.append(number)
            yield image

    results = network([]).predict(coming())
    assert next(results).key == 0
    assert pulled == [0, 1]
    assert [result.key for result in results] == [0]


@pytest.mark.parametrize(
    ("reds", "failed", "how", "deaths"),
    [
        ((10, 20, KILLS, 30, 40, 50), [2], "crashed (signal SIGKILL, perhaps because memory ran out), twice", 2),
        ((KILLS, KILLS, 30, 40), [0, 1], "SIGKILL", 3),
        ((10, RAISES, 30), [1], "failed (RuntimeError: shape mismatch), twice, with this image in it", 2),
        ((10, 20, 30, KILLS), [3], "SIGKILL", 1),
        ((10, KILLS_ONCE, 30, 40), [], "", 1),
    ],
)
def test_an_image_that_kills_it_fails_alone(
    reds: tuple[int, ...],
    failed: list[int],
    how: str,
    deaths: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CLUE_TEST_MARKER", str(tmp_path / "died"))
    warnings: list[str] = []
    results = list(network(warnings).predict(images(*reds)))
    assert sorted(result.key for result in results) == list(range(len(reds)))
    bad = [result for result in results if isinstance(result, Unpredicted)]
    assert [result.key for result in bad] == failed
    assert all(how in result.message and "on cuda:1" in result.message for result in bad)
    assert len(warnings) == deaths
    assert all("it is restarted" in sentence for sentence in warnings)


def test_out_of_memory_is_an_answer_and_the_smaller_batch_is_known() -> None:
    process = network([])
    results = list(process.predict(images(10, FILLS_MEMORY, 30, 40)))
    assert [type(result) for result in results] == [Prediction, OutOfMemory, Prediction, Prediction]
    assert process.batch == 1


def test_one_that_dies_again_and_again_gives_back_what_it_held() -> None:
    given: list[int] = []

    def coming() -> Iterator[Image | None]:
        for key, pixels in [(number, np.full((4, 6, 3), KILLS, np.uint8)) for number in range(40)]:
            given.append(key)
            yield key, pixels

    answered = []
    with pytest.raises(NetworkLost, match=r"on cuda:1 crashed \(signal SIGKILL") as lost:
        for result in network([]).predict(coming()):
            answered.append(result.key)
    assert sorted([*answered, *lost.value.keys]) == given
    assert len(answered) < len(given) < 40


def test_one_that_cannot_be_started_says_its_last_words() -> None:
    with pytest.raises(NetworkLost, match=r"could not be started: it ended with status 1 \(no driver\)") as lost:
        list(network([], "unstartable").predict(images(10, 20)))
    assert lost.value.keys == [0]


@pytest.mark.parametrize(("model", "error"), [("missing", WeightsError), ("too-large", UsageError)])
def test_what_is_refused_there_is_refused_here(model: str, error: type[ClueError]) -> None:
    with pytest.raises(error) as refused:
        list(network([], model).predict(images(10)))
    assert refused.value.advice in ("Look for it.", "Take another device.")


def test_without_images_nothing_is_started() -> None:
    assert list(network([], "unstartable").predict([])) == []


def test_abort_ends_it_from_another_thread() -> None:
    process = network([])

    def coming() -> Iterator[Image | None]:
        yield from images(10, 20)
        threading.Thread(target=process.abort).start()
        yield None
        yield from images(*range(200), size=(300, 300))

    with pytest.raises(Aborted):
        list(process.predict(coming()))
    with pytest.raises(Aborted):
        list(process.predict(images(10)))
