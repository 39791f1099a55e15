"""What is saved comes back; what is damaged or of another model is refused, and said which."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path

import pytest
import torch

from model.calibration import Calibration
from model.checkpoint import CONFIG_FILE, WEIGHTS_FILE, CheckpointError, digest_of, inspect
from model.clue import CLUE, build
from model.storage import load, save
from model.whole_file import earlier


@pytest.fixture
def folder(network: CLUE, tmp_path: Path) -> Path:
    save(tmp_path / "model", network, Calibration(name="test"), {"seed": 0}, dtype=torch.float32)
    return tmp_path / "model"


def test_round_trip(network: CLUE, folder: Path) -> None:
    checkpoint = inspect(str(folder))
    assert checkpoint.preset == network.preset
    assert checkpoint.calibration.name == "test"
    assert checkpoint.training == {"seed": 0}
    loaded = load(checkpoint, "cpu", torch.float32)
    assert not loaded.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    x = torch.rand(1, 3, 64, 64)
    noise = torch.randn(1, *network.latent_shape(64, 64))
    assert torch.equal(loaded(x, noise), network(x, noise))


def test_a_value_too_large_for_half_precision_is_kept(network: CLUE, tmp_path: Path) -> None:
    name, tensor = next((n, t) for n, t in network.state_dict().items() if t.is_floating_point())
    kept = tensor.clone()
    tensor.view(-1)[0] = 1e6
    try:
        save(tmp_path / "large", network, Calibration(), {}, dtype=torch.float16)
        assert torch.equal(load(inspect(str(tmp_path / "large")), "cpu", torch.float32).state_dict()[name], tensor)
    finally:
        tensor.copy_(kept)


def test_digest_covers_weights_and_configuration(folder: Path, network: CLUE) -> None:
    first = digest_of(folder)
    config = json.loads((folder / CONFIG_FILE).read_text())
    config["calibration"]["score_threshold"] = 0.9
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    second = digest_of(folder)
    with torch.no_grad():
        next(network.parameters()).add_(1)
    save(folder, network, Calibration(name="test"), {"seed": 0}, dtype=torch.float32)
    assert len({first, second, digest_of(folder)}) == 3


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        inspect(str(folder))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"format": 99}', '{"format": 1, "preset": {"name": "x", "sam": {"size": 1}}}']
)
def test_damaged_configuration(folder: Path, text: str) -> None:
    (folder / CONFIG_FILE).write_text(text)
    with pytest.raises(CheckpointError, match=CONFIG_FILE):
        inspect(str(folder))


@pytest.mark.parametrize("keep", [0, 4, 100, -7])
def test_truncated_weights(folder: Path, keep: int) -> None:
    path = folder / WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="damaged"):
        load(inspect(str(folder)), "cpu", torch.float32)


def test_a_pickle_is_never_executed(folder: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return open, (str(tmp_path / "executed"), "w")

    (folder / WEIGHTS_FILE).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match="damaged"):
        load(inspect(str(folder)), "cpu", torch.float32)
    assert not (tmp_path / "executed").exists()


def test_weights_of_another_preset(folder: Path, network: CLUE, tmp_path: Path) -> None:
    other = dataclasses.replace(network.preset, head=dataclasses.replace(network.preset.head, channels=32))
    save(tmp_path / "other", build(other), Calibration(), {})
    (folder / WEIGHTS_FILE).write_bytes((tmp_path / "other" / WEIGHTS_FILE).read_bytes())
    with pytest.raises(CheckpointError, match="does not fit the preset tiny"):
        load(inspect(str(folder)), "cpu", torch.float32)


def test_a_failed_save_leaves_the_former_model_whole(
    folder: Path, network: CLUE, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest_of(folder)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("model.storage.save_file", full)
    with pytest.raises(OSError, match="No space"):
        save(folder, network, Calibration(name="new"), {})
    assert digest_of(folder) == before
    assert sorted(p.name for p in folder.iterdir()) == sorted([CONFIG_FILE, WEIGHTS_FILE])


def test_what_is_saved_as_one_takes_the_place_of_the_folder(
    folder: Path, network: CLUE, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "left-over").write_text("x")
    before = digest_of(folder)
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr("model.storage.write_text", full)  # the second file of the two
        with pytest.raises(OSError, match="No space"):
            save(folder, network, Calibration(name="new"), {}, as_one=True)
    assert digest_of(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    save(folder, network, Calibration(name="new"), {}, as_one=True)
    assert sorted(p.name for p in folder.iterdir()) == sorted([CONFIG_FILE, WEIGHTS_FILE])
    assert inspect(str(folder)).calibration.name == "new"


def test_a_model_whose_replacement_was_killed_is_found(folder: Path) -> None:
    assert inspect(str(folder)).note == ""
    digest = digest_of(folder)
    moved = folder.rename(earlier(folder))
    found = inspect(str(folder))
    assert (found.folder, found.digest) == (moved, digest)
    assert f"{folder} is missing" in found.note
    assert str(moved) in found.note
    assert inspect(str(moved)).note == ""


@pytest.mark.parametrize("moved", [False, True])
def test_the_folder_of_a_training_is_told_from_its_best_model(folder: Path, tmp_path: Path, moved: bool) -> None:
    best = tmp_path / "run" / "best"
    (tmp_path / "run").mkdir()
    folder.rename(earlier(best) if moved else best)
    with pytest.raises(CheckpointError, match=f"not found; it is the folder of a training, whose best model is {best}"):
        inspect(str(tmp_path / "run"))
