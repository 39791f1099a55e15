"""When a graph is captured, replayed and given up; graphs themselves need a card (`tests/gpu`), here are stand-ins."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from model import cuda_graphs
from model.cuda_graphs import EAGER_CALLS, Graphs, Run

Inputs = tuple[Tensor | None, ...]


class Stand:
    """A function whose calls are counted, and graphs of it that compute as a card would: into places of their own."""

    def __init__(self) -> None:
        self.calls = self.captured = self.replayed = 0
        self.error: Exception | None = None
        self.wrong = 0.0

    def run(self, x: Tensor, y: Tensor | None) -> Tensor:
        self.calls += 1
        return x * 2 if y is None else x * 2 + y

    def capture(self, run: Run, inputs: Inputs) -> Graph:
        self.captured += 1
        if self.error is not None:
            raise self.error
        return Graph(self, inputs)


class Graph:
    def __init__(self, stand: Stand, inputs: Inputs) -> None:
        self.stand = stand
        self.inputs = tuple(None if tensor is None else torch.zeros_like(tensor) for tensor in inputs)
        self.result = torch.zeros_like(inputs[0]) if inputs[0] is not None else torch.zeros(1)

    def replay(self) -> None:
        self.stand.replayed += 1
        x, y = self.inputs
        assert x is not None
        self.result.copy_(x * 2 + (0 if y is None else y) + self.stand.wrong)


@pytest.fixture
def stand() -> Stand:
    return Stand()


def numbers(size: int = 3, value: float = 1.0) -> Tensor:
    return torch.full((size,), value)


def called(graphs: Graphs, times: int, size: int = 3) -> None:
    for time in range(times):
        assert torch.equal(graphs(numbers(size, float(time)), None), numbers(size, 2.0 * time))


def test_a_shape_is_captured_once_and_replayed_from_then_on(stand: Stand) -> None:
    graphs = Graphs(stand.run, stand.capture)
    called(graphs, EAGER_CALLS)
    assert (stand.captured, stand.replayed) == (0, 0)
    called(graphs, 1)
    assert (stand.captured, stand.calls, stand.replayed) == (1, EAGER_CALLS + 1, 1)
    called(graphs, 5)
    assert (stand.captured, stand.calls, stand.replayed) == (1, EAGER_CALLS + 1, 6)


def test_each_shape_number_format_and_missing_input_has_its_graph(stand: Stand) -> None:
    graphs = Graphs(stand.run, stand.capture)
    for inputs in ((numbers(), None), (numbers(), numbers()), (numbers(4), None), (numbers().double(), None)):
        for _ in range(EAGER_CALLS + 2):
            assert torch.equal(graphs(*inputs), stand.run(*inputs))
    assert len(graphs.held) == stand.captured == 4


def test_results_are_the_callers_and_inputs_are_left_alone(stand: Stand) -> None:
    graphs = Graphs(stand.run, stand.capture)
    called(graphs, EAGER_CALLS + 1)
    x = numbers(value=5.0)
    first, second = graphs(x, None), graphs(numbers(value=7.0), None)
    assert [float(one[0]) for one in (first, second, x)] == [10.0, 14.0, 5.0]


def test_the_least_recently_used_makes_room_and_has_to_wait_longer(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_graphs, "MOST_GRAPHS", 2)
    graphs = Graphs(stand.run, stand.capture)
    for size in (1, 2):
        called(graphs, EAGER_CALLS + 1, size)
    called(graphs, 1, 1)
    called(graphs, EAGER_CALLS + 1, 3)
    assert [key[0] and key[0][0] for key in graphs.held] == [(1,), (3,)]
    called(graphs, EAGER_CALLS + 1, 2)
    assert stand.captured == 3
    called(graphs, 4 * (EAGER_CALLS + 1), 2)
    assert stand.captured == 4
    assert len(graphs.held) == 2


@pytest.mark.parametrize("how", ["fails", "differs"])
def test_where_it_does_not_work_calls_are_eager_with_one_warning(stand: Stand, how: str) -> None:
    graphs = Graphs(stand.run, stand.capture)
    if how == "fails":
        stand.error = RuntimeError("operation not permitted when stream is capturing\nmore")
    else:
        stand.wrong = 1e-6
    called(graphs, EAGER_CALLS)
    with pytest.warns(RuntimeWarning, match=r"slower: .*(capturing|single launches)\.$") as said:
        called(graphs, 1)
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        called(graphs, 5)
        called(graphs, 5, size=4)
    assert stand.captured == 1
    assert not graphs.held


def test_an_error_of_the_network_is_the_callers(stand: Stand) -> None:
    graphs = Graphs(stand.run, stand.capture)
    called(graphs, EAGER_CALLS + 1)
    with pytest.raises(RuntimeError, match="size"):
        graphs(numbers(3), numbers(2))
    assert len(graphs.held) == 1


@pytest.mark.parametrize("where", ["capture", "call"])
def test_where_memory_runs_out_the_graphs_are_given_up(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    full = torch.OutOfMemoryError("CUDA out of memory")
    graphs = Graphs(stand.run, stand.capture)
    called(graphs, EAGER_CALLS + 1)
    if where == "capture":
        stand.error = full
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            called(graphs, EAGER_CALLS + 1, 4)
    else:
        monkeypatch.setattr(graphs, "_run", once_full(stand.run, full))
        called(graphs, 1, 4)
    assert not graphs.held
    called(graphs, 5)
    assert stand.captured == (2 if where == "capture" else 1)


def once_full(run: Callable[..., Tensor], error: Exception) -> Callable[..., Tensor]:
    left = [error]

    def full_once(*inputs: Tensor | None) -> Tensor:
        if left:
            raise left.pop()
        return run(*inputs)

    return full_once


def test_nothing_is_captured_where_memory_is_scarce(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs, spare = Graphs(stand.run, stand.capture), [False]
    monkeypatch.setattr(cuda_graphs, "_spare_memory", lambda: spare[0])
    called(graphs, EAGER_CALLS + 2)
    assert stand.captured == 0
    spare[0] = True
    called(graphs, 4 * (EAGER_CALLS + 1))
    assert stand.captured == 1


def test_memory_that_no_graph_holds_is_the_callers_matter(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = Graphs(stand.run, stand.capture)
    monkeypatch.setattr(graphs, "_run", once_full(stand.run, torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(torch.OutOfMemoryError):
        graphs(numbers(), None)
    called(graphs, EAGER_CALLS + 1)
    assert stand.captured == 1  # the graphs are still in use
