"""Training that asks about the texts of its samples, on a tiny base with text encoders."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.branches.sd3_prompt import embed
from model.data.stream import Batch
from model.registry import find
from model.storage import with_bases
from model.training.errors import OptionsError
from model.training.options import read_options
from model.training.queries import QUERIES, Queries
from model.training.run_folder import Row
from model.training.trainer import train
from tests.base_layouts import SMALL, register_small, write_asked_adapter, write_text_encoders
from tests.model.training.made import Squares, Stopper, figures, task

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="needs transformers, of the extra `models`"
)
TEXTS = ("the plate", "the sky")


@dataclass
class Told(Squares):
    """Squares, every second of them with a text."""

    def batch(self, index: int, count: int) -> Batch:
        found = super().batch(index, count)
        told = [replace(s, text=TEXTS[n // 2 % 2]) if n % 2 == 0 else s for n, s in enumerate(found.samples)]
        return Batch(told, found.damaged)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLUE_CONFIG", str(folder / "config"))
        write_asked_adapter(folder)
    return folder


@pytest.fixture(autouse=True)
def registered(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUE_CONFIG", str(made / "config"))


def run(out: Path, stopper: Stopper | None = None, **changes: Any) -> list[Row]:
    chosen: dict[str, Any] = {"training": Told(1), "texts": TEXTS, "calibration_samples": 0, "steps": 4} | changes
    asked = task(out, SMALL, **chosen)
    train(asked, stopper or Stopper(99), stopper.stop if stopper else None)
    return [row for row in figures(out) if row["kind"] == "step"]


def test_queries_change_what_is_learned_and_a_resumed_training_repeats_it(tmp_path: Path) -> None:
    plain = run(tmp_path / "plain", training=Squares(1), texts=())
    assert run(tmp_path / "off") == plain  # texts without the option
    assert not (tmp_path / "off" / QUERIES).exists()
    asked = run(tmp_path / "asked", queries=1.0)
    assert asked != plain
    files = [path.name for path in (tmp_path / "asked" / QUERIES).iterdir()]
    assert files == ["000000.safetensors"]
    stopper = Stopper(2)
    assert len(run(tmp_path / "resumed", stopper, queries=1.0)) == 2
    (tmp_path / "resumed" / QUERIES / files[0]).write_bytes(b"damaged")
    assert run(tmp_path / "resumed", queries=1.0) == asked


@torch.inference_mode()
def test_each_sample_has_its_own_prompt(made: Path, tmp_path: Path) -> None:
    base = find("small-sd3")
    model = with_bases(SMALL, base, "cpu", torch.float32).eval()
    queries = Queries(tmp_path, TEXTS, model)
    queries.prepare(Stopper(99))
    x, noise = torch.rand(3, 3, 64, 64), torch.randn(3, *model.latent_shape(64, 64))
    device = torch.device("cpu")
    together = model(x, noise, None, queries(["the sky", "", "the plate"], device))
    assert queries(["", ""], device) is None
    for row, text in enumerate(["the sky", "", "the plate"]):
        alone = model(x[row : row + 1], noise[row : row + 1], None, queries([text], device))
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-4)
    (sky,) = embed(Path(base.sd3), SMALL.transformer, ["the sky"], "it")
    prompt, pooled = queries(["the sky"], device) or (None, None)
    assert torch.equal(prompt, sky.prompt) and torch.equal(pooled, sky.pooled)  # type: ignore[arg-type]
    assert not torch.allclose(together[0], model(x[:1], noise[:1])[0])


def test_what_cannot_be_asked_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for changes in ({"branches": "sam"}, {"recipe": "mini"}):
        with pytest.raises(OptionsError, match=r"queries is 0\.5"):
            read_options(**{"recipe": "default", "minutes": 1, "queries": 0.5} | changes)  # type: ignore[arg-type]
    with pytest.raises(OptionsError, match="queries needs a network on registered base weights"):
        train(task(tmp_path / "quick", queries=0.5, texts=TEXTS))
    monkeypatch.setenv("CLUE_CONFIG", str(tmp_path / "config"))
    base = register_small(tmp_path / "bases")  # its empty prompt has five tokens
    monkeypatch.setattr("model.training.queries.text_encoders", lambda *_: (Path(base.sd3), None))
    model = with_bases(SMALL, base, "cpu", torch.float32)
    write_text_encoders(Path(base.sd3))
    with pytest.raises(OptionsError, match="has 5 tokens, and a query has 333"):
        Queries(tmp_path / "q", TEXTS, model).prepare(Stopper(99))
