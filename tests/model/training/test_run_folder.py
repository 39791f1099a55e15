"""The runs folder: whose it is, and what its state must be."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from model.checkpoint import WEIGHTS_FILE, digest_of, inspect
from model.training.errors import CannotWriteError, OptionsError, OtherSettingsError
from model.training.trainer import train
from tests.model.training.made import Stopper, task, weights
from tests.tiny_model import TINY


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lr": 1e-3}, ["options.lr is 0.003 there, 0.001 here"]),
        ({"data": {"mix": "b"}}, ["data.mix is None there, b here"]),
        ({"preset": TINY, "seed": 2}, ["options.seed is 1 there, 2 here", "preset.name is quick there, tiny here"]),
        ({"noise": "ddpm"}, ["preset.noise.schedule is rf there, ddpm here"]),
    ],
)
def test_a_folder_of_other_settings_is_refused(finished: Path, changes: dict[str, Any], said: list[str]) -> None:
    before = (finished / "state.pt").read_bytes()
    with pytest.raises(OtherSettingsError) as caught:
        train(task(finished, **changes))
    assert all(words in caught.value.message for words in said)
    assert (finished / "state.pt").read_bytes() == before


def test_options_without_effect_may_change(finished: Path) -> None:
    assert train(task(finished, save_every=5)).step == 6


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(OptionsError, match="not the folder of a training"):
        train(task(tmp_path))
    with pytest.raises(CannotWriteError, match="cannot be written"):
        train(task(tmp_path / "thesis.tex"))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_a_killed_training_was_writing_is_removed(finished: Path, tmp_path: Path) -> None:
    run = task(tmp_path / "run")
    shutil.copytree(finished, run.out)
    folder = f".{'a' * 16}.part"
    cut_off = [f".{'0' * 16}.part", f"{folder}/model.json", f"best/.{'1' * 16}.part", ".last.earlier/model.json"]
    kept = [".notes-abcd1234", ".part", f".{'A' * 16}.part"]
    for name in (*cut_off, *kept):
        (run.out / name).parent.mkdir(exist_ok=True)
        (run.out / name).write_text("half")
    assert train(run).step == 6
    assert not [name for name in cut_off if (run.out / name).exists()]
    assert not (run.out / folder).exists()
    assert not (run.out / ".last.earlier").exists()
    assert all((run.out / name).exists() for name in kept)


def test_killed_while_the_best_model_was_replaced(finished: Path, tmp_path: Path) -> None:
    """The new one was written, and the earlier one moved aside: that one is put back."""
    run = task(tmp_path / "run")
    shutil.copytree(finished, run.out)
    digest = digest_of(run.out / "best")
    shutil.copytree(run.out / "best", run.out / f".{'a' * 16}.part")
    (run.out / "best").rename(run.out / ".best.earlier")
    assert digest_of(inspect(str(run.out / "best")).folder) == digest
    listener = Stopper(0)
    assert train(run, listener).step == 6
    said = f"{run.out / 'best'} is the earlier one again: the training was killed while it replaced it."
    assert said in listener.said
    assert inspect(str(run.out / "best")).note == ""
    assert (run.out / "best" / WEIGHTS_FILE).read_bytes() == (finished / "best" / WEIGHTS_FILE).read_bytes()
    assert not [path for path in run.out.iterdir() if path.name.endswith((".part", ".earlier"))]


def test_first_weights_whose_replacement_was_killed(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "best", tmp_path / "other" / ".best.earlier")
    listener = Stopper(0)
    assert train(task(tmp_path / "run", steps=1, init=str(tmp_path / "other" / "best")), listener).step == 1
    assert any("best is missing" in line for line in listener.said)


def test_killed_before_the_settings_were_written(tmp_path: Path) -> None:
    (tmp_path / f".{'a' * 16}.part").write_text("{")
    assert train(task(tmp_path, steps=1)).step == 1


def test_two_trainings_in_one_folder(tmp_path: Path) -> None:
    second: list[str] = []

    class Intruder(Stopper):
        def advance(self, n: int = 1, status: str | None = None, *, reused: bool = False) -> None:
            super().advance(n, status, reused=reused)
            if n and self.at == 1:
                with pytest.raises(OptionsError) as caught:
                    train(task(tmp_path / "run"))
                second.append(caught.value.message)

    train(task(tmp_path / "run", steps=2), Intruder(100))
    assert "Another training" in second[0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"state\.pt is damaged"),
        (b"PK\x03\x04 cut off", r"state\.pt is damaged"),
        (b"not a zip at all, and long enough to be looked at", r"state\.pt is damaged"),
        ({"format": 99}, "another version"),
    ],
    ids=["empty", "cut off", "not a zip", "another version"],
)
def test_a_damaged_state_is_refused(tmp_path: Path, finished: Path, content: bytes | dict[str, int], said: str) -> None:
    run = task(tmp_path / "run")
    shutil.copytree(finished, run.out)
    if isinstance(content, bytes):
        run.out.joinpath("state.pt").write_bytes(content)
    else:
        torch.save(content, run.out / "state.pt")
    with pytest.raises(OtherSettingsError, match=said):
        train(run)


@pytest.mark.parametrize(
    "change", [{"model": {}}, {"average": {}}, {"position": {"steps": 1}}, {"optimizer": 3}], ids=str
)
def test_a_state_that_does_not_fit_is_refused(tmp_path: Path, finished: Path, change: dict[str, Any]) -> None:
    run = task(tmp_path / "run")
    shutil.copytree(finished, run.out)
    torch.save(weights(finished) | change, run.out / "state.pt")
    with pytest.raises(OtherSettingsError, match=r"state\.pt does not fit this training"):
        train(run)
