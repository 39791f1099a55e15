"""The JPEG on the device against Pillow's; packing, forging and training from end to end, on the CPU."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from skimage import data

from model.checkpoint import EMBEDDED
from model.data.making import Making
from model.evaluation.made import camera_model, held_out
from tests.model.data.made_mix import recipe
from tests.scripts.conftest import modules_of_scripts


@pytest.fixture(scope="module")
def scripts() -> Iterator[SimpleNamespace]:
    with modules_of_scripts("make_pool", "train_on_pool") as modules:
        yield modules


@pytest.mark.parametrize(("quality", "halved"), [(55, False), (70, True), (90, False), (92, True)])
def test_the_jpeg_on_the_device_is_pillows_but_for_ties(scripts: SimpleNamespace, quality: int, halved: bool) -> None:
    photo = np.ascontiguousarray(data.astronaut()[:256, 128:384])
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=quality, subsampling=2 if halved else 0)
    expected = np.asarray(Image.open(buffer)).astype(int)
    jpeg = scripts.train_on_pool.Jpeg(torch.device("cpu"))
    pixels = torch.from_numpy(photo.transpose(2, 0, 1).copy())[None]
    found = jpeg(pixels, torch.tensor([float(quality)]), torch.tensor([halved]))[0].permute(1, 2, 0).numpy()
    apart = np.abs(found - expected)
    assert apart.mean() < 0.6
    assert (apart > 2).mean() < 0.03
    assert np.abs(photo.astype(int) - expected).mean() > 2 * apart.mean()


def test_each_sample_has_its_own_quality(scripts: SimpleNamespace) -> None:
    jpeg = scripts.train_on_pool.Jpeg(torch.device("cpu"))
    photo = torch.from_numpy(data.astronaut()[:64, 128:192].transpose(2, 0, 1).copy())
    qualities, halved = torch.tensor([60.0, 95.0]), torch.tensor([True, False])
    both = jpeg(photo[None].repeat(2, 1, 1, 1), qualities, halved)
    for number in range(2):
        alone = jpeg(photo[None], qualities[number : number + 1], halved[number : number + 1])
        assert torch.equal(both[number], alone[0])
    assert not torch.equal(both[0], both[1])


def test_the_newest_tiles_replace_the_oldest(scripts: SimpleNamespace) -> None:
    def tiles(value: int, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        pixels = torch.full((count, 3, 16, 16), value, dtype=torch.uint8)
        masks = torch.full((count, 16, 16), value % 2 == 1)
        return pixels, masks, torch.zeros(count, 2, 2, 2, dtype=torch.float16)

    ring = scripts.train_on_pool.Ring(5, tiles(0, 1), torch.device("cpu"))
    ring.add(tiles(1, 3))
    assert (ring.held, list(ring.forged), list(ring.clean)) == (3, [0, 1, 2], [])
    ring.add(tiles(2, 2))
    ring.add(tiles(4, 2))
    assert (ring.held, list(ring.forged), list(ring.clean)) == (5, [2], [0, 1, 3, 4])
    assert ring.take(torch.tensor([0, 2, 4]))[0][:, 0, 0, 0].tolist() == [4, 1, 2]


def write_data(root: Path) -> None:
    photos = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
    for folder in ("coco", "people", "nature", "scenes", "cameras"):
        (root / "photos" / folder).mkdir(parents=True)
        for number in range(8):
            photo = photos[number % 4][:288, :384] if number % 2 else photos[number % 4][-288:, -384:]
            Image.fromarray(photo).save(root / "photos" / folder / f"{folder}{number}.jpg", quality=95)
    empty = ("photos/coco_instances", "photos/people_masks", "composites/images", "composites/masks")
    for name in (*empty, *(f"screens/{part}{side}" for part in ("", "pages/") for side in ("train", "test"))):
        (root / name).mkdir(parents=True)


def test_from_photos_to_weights(scripts: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed, put together again, forged and trained on; what is held out is in no pack that is trained on."""
    root, packs, pool = tmp_path / "data", tmp_path / "packs", tmp_path / "pool"
    write_data(root)
    make, train = scripts.make_pool, scripts.train_on_pool
    make.pack(root, packs, 0.2, 0.4)
    names = {folder.name: {file.name for file in folder.rglob("*.jpg")} for folder in packs.iterdir()}
    assert len(names) > 3
    assert sum(map(len, names.values())) == len(set().union(*names.values())) == 40
    held = {name for name in set().union(*names.values()) if is_held_out(name)}
    assert held
    assert names["held"] == held
    together = tmp_path / "train"
    for folder in packs.glob("p*"):
        shutil.copytree(folder, together, dirs_exist_ok=True)
    for name in ("photos/coco_instances", "photos/people_masks", "composites", "screens"):
        shutil.copytree(root / name, together / name)

    small = Making.model_validate(recipe()["made"] | {"shares": {"small": 1}, "recompressed": 0})
    for module in (make, train):
        monkeypatch.setattr(module, "recipe", lambda: small)
    make.forge(together, pool / "train", 1, 1, 40)
    make.forge(together, pool / "held", 1, 2, 12)
    tiles, kinds = make.read_tiles(next((pool / "train").rglob("*.npz")))
    assert len(tiles[0]) == len(tiles[1]) == len(kinds) > 0
    monkeypatch.setattr(
        sys,
        "argv",
        f"train --pool {pool} --out {tmp_path / 'run'} --minutes 0.1 --device cpu --batch 1 --start 16".split(),
    )
    train.main()
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["steps"] > 0
    assert "after JPEG 70" in rows[-2]
    found, shipped = (
        load_file(path) for path in (tmp_path / "run" / "average-0.999.safetensors", EMBEDDED / "model.safetensors")
    )
    assert found.keys() == shipped.keys()
    apart = [float((found[name] - shipped[name]).abs().max()) for name in found if found[name].is_floating_point()]
    assert 0 < max(apart) < 0.1


def is_held_out(name: str) -> bool:
    if name.startswith("cameras"):
        return hashlib.sha256(camera_model(Path(name)).encode()).digest()[0] % 2 == 0
    return held_out(Path(name))
