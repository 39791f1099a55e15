"""The benchmark `made`: what was held out, and that its pictures are those of `made_pictures`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.data.made_pictures import MadePictures
from model.evaluation import BenchmarkNotFound, digest, made
from model.evaluation.ground import MadeSample
from tests.model.data.made_mix import small_pictures
from tests.shipped_photos import write_root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_root(tmp_path_factory.mktemp("root"))


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("Canon_EOS_5D_1.jpg", "Canon_EOS_5D"),
        ("Canon_EOS_5D_12.jpg", "Canon_EOS_5D_12"),
        ("Nikon_D70_3_crop.jpg", "Nikon_D70"),
        ("Nikon_D70_iptc.jpg", "Nikon_D70"),
        ("Nikon_D70_2_iptc_crop.jpg", "Nikon_D70"),
        ("sfm_fountain_0012.jpg", "sfm_fountain"),
    ],
)
def test_the_name_of_a_file_says_the_camera(name: str, model: str) -> None:
    assert made.camera_model(Path(name)) == model


def test_what_was_held_out(root: Path) -> None:
    there, trained = made.held_out_materials(root), made.photos(root, validation=False)
    assert all(made.held_out(path) for path in there.photos.paths)
    assert trained.paths and not {*trained.paths} & {*there.photos.paths}
    assert there.cameras is not None and there.screens is not None and there.pages is not None
    assert 0 < len(there.cameras.paths) < 16
    assert all(path.name.startswith("test-") for path in (*there.screens.paths, *there.pages.paths))


def test_a_picture_is_made_on_demand_and_is_that_of_its_number(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_pictures(monkeypatch)
    found = made.find_made("made:0.02", root, 0.02)
    counts = {group: round(count * 0.02) for group, count in made.COUNTS.items()}
    same = list(MadePictures(made.held_out_materials(root)).made(made.SEED, counts, made.PART))
    read = []
    for entry in found.samples:
        assert isinstance(entry, MadeSample)
        try:
            sample, pixels, known = entry.make()
        except ValueError as error:
            assert "no edit succeeded" in str(error)
            continue
        assert (sample.key, sample.part, bool(sample.source)) == (entry.key, entry.part, True)
        assert sample.forged == (known.truth is not None) == bool(sample.manipulation)
        read.append((sample.part, sample.manipulation, sample.source, pixels))
    small = [one for one in read if one[0] == "small regions"]
    assert len(small) == round(made.SMALL_REGIONS * 0.02) and len(read) == len(same) + len(small)
    kinds = {one.kind.replace("_", "-") for one in same if one.forged}
    assert {manipulation for part, manipulation, *_ in read if part != "small regions"} == {"", *kinds}
    for one in same[:: max(1, len(same) // 8)]:
        assert any(part == one.group and np.array_equal(pixels, one.pixels) for part, _, _, pixels in read)


def test_the_digest_follows_the_photos(root: Path, tmp_path: Path) -> None:
    one, again = (made.find_made("made", root, 0.01).samples for _ in range(2))
    assert [digest([entry]) for entry in one] == [digest([entry]) for entry in again]
    assert len({digest([entry]) for entry in one}) == len(one)
    other = made.find_made("made", write_root(tmp_path), 0.01).samples
    assert digest(one) == digest(other), "wherever they lie"
    photo = next(path for path in (tmp_path / "photos" / "nature").iterdir() if made.held_out(path))
    photo.write_bytes(photo.read_bytes() + b"more")
    assert digest(one) != digest(made.find_made("made", tmp_path, 0.01).samples)


def test_no_photo(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkNotFound, match="needs photos in"):
        made.find_made("made", tmp_path)
