"""Re-synthesis by the autoencoder of registered base weights: what is decoded, what stays, what decides the data."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from scipy import ndimage

from model import registry
from model.config import ConfigError
from model.data.filling import Registered
from model.data.local_edit import resynthesis
from model.data.mix import Forge, Mix, Resynthesis, Shape, Source, Validation, load_mix
from model.data.scene import FEATHER, Scene, Tools
from model.data.source_photos import SourcePhotos
from model.data.stream import Stream
from tests.base_layouts import register_small

NAME = "small-sd3"


@pytest.fixture
def base(config: Path, tmp_path: Path) -> registry.Base:
    return register_small(tmp_path / "bases")


def mix_of(bank: SourcePhotos, forge: Forge | None = None) -> Mix:
    made = forge or Forge((bank.paths[0].parent,), autoencoder=Resynthesis(NAME, 1.0))
    return Mix(Path("mix.yaml"), (Source("made", 1, made, "mix.yaml, line 3"),), Validation(0, 0, 0), (Shape(64, 64),))


def test_the_region_is_the_autoencoders_and_the_rest_the_photos(base: registry.Base, bank: SourcePhotos) -> None:
    tools = Tools(autoencoder=pickle.loads(pickle.dumps(Registered(NAME))), base=NAME)
    host = np.ascontiguousarray(bank.photo(0)[:160, :192])
    decoded = Registered(NAME)(host)
    assert np.abs(decoded.astype(int) - host).mean() > 5
    seen: set[object] = set()
    for seed in range(12):
        scene = Scene(bank, np.random.default_rng(seed), host, [], [0], largest=0.1, tools=tools)
        edited, mask = resynthesis(scene)
        (how,) = [step for step in scene.steps if "resynthesis" in step]
        assert how.startswith(f"local resynthesis by the autoencoder of {NAME}, which decoded ")
        whole = how.endswith("the whole picture")
        seen.add(whole)
        reach = ndimage.binary_dilation(mask, np.ones((2 * FEATHER + 1,) * 2))
        if scene.steps[-1] != "poisson":  # it solves for a rectangle
            assert np.array_equal(edited[~reach], host[~reach])
        if whole and scene.steps[-1] == "hard":
            assert np.array_equal(edited[mask], decoded[mask])
            seen.add("hard")
    assert seen == {True, False, "hard"}


def test_a_share_of_the_samples_is_made_by_it_and_its_digest_decides_the_data(
    base: registry.Base, bank: SourcePhotos, monkeypatch: pytest.MonkeyPatch
) -> None:
    mix = mix_of(bank)
    first, again = Stream(mix).batch(0, 4), Stream(mix).batch(0, 4)
    assert all(sample.mask.any() for sample in first.samples)
    assert [s.pixels.tobytes() for s in first.samples] == [s.pixels.tobytes() for s in again.samples]
    plain = mix_of(bank, Forge((bank.paths[0].parent,)))
    off = mix_of(bank, Forge((bank.paths[0].parent,), autoencoder=Resynthesis(NAME, 0.0)))
    assert Stream(plain).digest() != Stream(mix).digest() == Stream(off).digest()
    before = Stream(mix).digest()
    (file,) = base.parts["vae"]
    registry.put(replace(base, parts=base.parts | {"vae": (replace(file, sha256="0" * 64),)}))
    assert Stream(mix).digest() != before


@pytest.mark.parametrize(
    ("name", "said"), [("nobody", "base weights of nobody are not registered"), ("mini", "VAE of mini has no decoder")]
)
def test_what_cannot_decode_is_refused_before_anything_is_made(
    base: registry.Base, bank: SourcePhotos, name: str, said: str
) -> None:
    forge = Forge((bank.paths[0].parent,), autoencoder=Resynthesis(name))
    with pytest.raises(ConfigError, match=f"mix.yaml, line 3.*{said}"):
        Stream(mix_of(bank, forge))


def test_an_encoder_alone_is_refused(base: registry.Base, bank: SourcePhotos) -> None:
    (path,) = base.paths("vae")
    save_file({name: one for name, one in load_file(path).items() if not name.startswith("decoder.")}, path)
    registry.put(replace(base, parts=base.parts | {"vae": (registry.stored(path),)}))
    with pytest.raises(ConfigError, match="has no decoder"):
        Stream(mix_of(bank))


def test_the_keys_of_a_mix(bank: SourcePhotos, tmp_path: Path) -> None:
    def read(more: str) -> Forge:
        text = f"sources:\n  - forge:\n      photos: {bank.paths[0].parent}\n      {more}\n"
        (tmp_path / "mix.yaml").write_text(text)
        data = load_mix(tmp_path / "mix.yaml").sources[0].data
        assert isinstance(data, Forge)
        return data

    assert read("autoencoder: sd3-medium").autoencoder == Resynthesis("sd3-medium", 0.25)
    assert read("autoencoder: {base: sd3-medium, share: 0.5}").autoencoder == Resynthesis("sd3-medium", 0.5)
    assert read("plain_share: 0.5").autoencoder is None
    with pytest.raises(ConfigError, match="either `fillers` or `autoencoder`"):
        read(f"fillers: {tmp_path}\n      autoencoder: sd3-medium")
    with pytest.raises(ConfigError, match=r"autoencoder\.share"):
        read("autoencoder: {base: sd3-medium, share: 2}")
