"""What a network's own process loads, and that it ends with its input."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from clue_cli.errors import UsageError, WeightsError
from clue_cli.evidence.sandbox.framing import receive_header, send_header
from clue_cli.networks.worker import load, serve
from model.checkpoint import inspect


def setup(folder: Path, **changes: Any) -> dict[str, Any]:
    asked = {"model": str(folder), "digest": inspect(str(folder)).digest, "device": "cpu", "dtype": "float32"}
    return asked | {"batch": 4, "compile": None} | changes


def test_it_loads_what_the_parent_asked_for(model: Path) -> None:
    predictor = load(setup(model))
    assert (predictor.model.preset.name, predictor.batch) == ("tiny", 1)  # on the CPU one tile at a time


@pytest.mark.parametrize(
    ("changes", "error", "named"),
    [
        ({"digest": "0" * 64}, WeightsError, "changed since the run began"),
        ({"model": "/nowhere"}, WeightsError, "No model at /nowhere"),
        ({"device": "cuda:77"}, UsageError, "there is no device 'cuda:77' here"),
    ],
)
def test_anything_else_is_refused(model: Path, changes: dict[str, Any], error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        load(setup(model, **changes))


def test_a_refusal_is_an_answer(model: Path) -> None:
    requests, replies = io.BytesIO(), io.BytesIO()
    send_header(requests, setup(model, digest="0" * 64))
    requests.seek(0)
    serve(requests, replies)
    replies.seek(0)
    answer = receive_header(replies)
    assert answer is not None
    assert (answer["refused"], answer["advice"]) == ("WeightsError", "Repeat the command.")


def test_without_input_it_ends() -> None:
    replies = io.BytesIO()
    serve(io.BytesIO(), replies)
    assert replies.getvalue() == b""
