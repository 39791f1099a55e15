"""Mixes and crops of the second question: both classes, equal histories, aligned pairs, one side for each photo."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

from model.config import ConfigError
from model.data.mix import load_mix
from model.data.reconstructions import Pool
from model.data.synthetic_mix import LAUNDERED, REAL, load_synthetic_mix
from model.data.synthetic_stream import SyntheticStream

CROP = 32
PLAIN = {"flip": 0, "blur": 0, "history": 0, "first": False}
ALL = {"share": 0.0, "calibration_share": 0.0}


def marked(autoencoder: str, pixels: NDArray[np.uint8], strength: float, seed: int) -> NDArray[np.uint8]:
    """An autoencoder that adds a constant."""
    return (np.minimum(pixels, 200) + 40).astype(np.uint8)


def pictures(folder: Path, count: int, ending: str, side: int = 64, **how: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        noise = np.random.default_rng([number, len(folder.name)]).integers(0, 200, (side, side, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{folder.name}{number:02}.{ending}", **how)


def mix_of(root: Path, *sources: dict[str, Any], **more: Any) -> Path:
    path = root / "mix.yaml"
    path.write_text(json.dumps({"sources": sources, "validation": ALL} | more))
    return path


def stream_of(path: Path, pool: Pool | None = None, side: Any = "train", **how: Any) -> SyntheticStream:
    return SyntheticStream(load_synthetic_mix(path), side, 1, CROP, pool or Pool(path.parent / "pool"), **how)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    pictures(tmp_path / "real", 12, "jpg", quality=80)
    pictures(tmp_path / "made", 12, "png")
    return tmp_path


R, G = {"name": "r", "real": "real"}, {"name": "g", "generated": "made", "generator": "Alpha"}


def test_half_of_each_batch_is_real_whatever_the_weights(root: Path) -> None:
    stream = stream_of(mix_of(root, R | {"weight": 9}, G))
    found = stream.batch(3, 16)
    assert [crop.generated for crop in found.samples] == [False, True] * 8
    assert {crop.group for crop in found.samples} == {REAL, "Alpha"}
    again = stream.batch(3, 16)
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(found.samples, again.samples, strict=True))
    first = stream.batch(3, 4).samples
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, found.samples, strict=False))
    assert stream.pictures == 24 and stream.counts() == {REAL: 12, "Alpha": 12}


def test_lossless_pictures_of_one_class_are_compressed_like_the_other(root: Path) -> None:
    """Else every JPEG would be real. What a JPEG has, and noise has not: few different coefficients."""
    from scipy.fft import dctn

    def rough(pixels: NDArray[np.uint8]) -> float:
        blocks = pixels[..., 1].reshape(4, 8, 4, 8).swapaxes(1, 2).astype(float)
        return float(np.abs(dctn(blocks, axes=(2, 3), norm="ortho")[..., 6:, 6:]).mean())

    def classes(first: bool) -> tuple[float, float]:
        stream = stream_of(mix_of(root, R, G, augment=PLAIN | {"first": first, "aligned": 1}))
        crops = [crop for index in range(6) for crop in stream.batch(index, 8).samples]
        real, made = (float(np.mean([rough(c.pixels) for c in crops if c.generated == kind])) for kind in (False, True))
        return real, made

    real, made = classes(False)
    assert made > 1.3 * real
    real, made = classes(True)
    assert made == pytest.approx(real, rel=0.1)
    assert "0% of the files are JPEG, 100% of the others made one" in stream_of(mix_of(root, R, G)).formats()[1]


def test_a_crop_of_a_lossless_picture_is_that_of_its_whole_as_a_jpeg(root: Path) -> None:
    """Its edges, too: a unit of the JPEG that the crop cuts was compressed with what lies beyond."""
    stream = stream_of(mix_of(root, R, G, augment=PLAIN | {"first": True, "aligned": 0}))
    whole = []
    for path in (root / "made").iterdir():
        buffer = io.BytesIO()
        Image.open(path).save(buffer, "JPEG", quality=80)
        whole.append(sliding_window_view(np.asarray(Image.open(buffer)), (CROP, CROP), axis=(0, 1)))
    for crop in (crop for crop in stream.batch(0, 8).samples if crop.generated):
        wanted = crop.pixels.transpose(2, 0, 1)
        assert any((one == wanted).all((2, 3, 4)).any() for one in whole)


def test_a_lossless_picture_gets_the_tables_of_the_other_class(root: Path) -> None:
    """Else another generator's JPEG files would give away its class."""
    pictures(root / "web", 12, "jpg", quality=30)
    stream = stream_of(mix_of(root, R, G, {"name": "w", "generated": "web"}, augment=PLAIN | {"first": True}))
    lossless = next(part for part in stream._parts if part.source.name == "g")
    real = {tuple(p.tables.tables[0]) for part in stream._real for p in part.pictures if p.tables}
    rng = np.random.default_rng(0)
    drawn = [stream._first(lossless, lossless.pictures[0], True, rng) for _ in range(40)]
    assert {tuple(tables.tables[0]) for tables in drawn if tables} == real and all(drawn)


def test_the_later_history_of_a_pair_is_one(root: Path) -> None:
    """Both classes from the same files: whatever differs would come from the history."""
    same = {"name": "g", "generated": "real"}
    stream = stream_of(mix_of(root, R, same, augment={"history": 1, "blur": 0.5, "flip": 0.5}))
    crops = [crop for index in range(40) for crop in stream.batch(index, 8).samples]
    noise = {kind: np.mean([c.pixels.std() for c in crops if c.generated == kind]) for kind in (False, True)}
    assert noise[True] == pytest.approx(noise[False], rel=0.05)


def test_an_aligned_pair_has_one_crop_and_one_history(root: Path) -> None:
    pictures(root / "large", 12, "png", side=100)
    source = {"name": "a", "align": "large", "autoencoder": "some-vae", "strengths": [0, 0.2], "side": 64}
    path = mix_of(root, source, augment=PLAIN | {"flip": 0.5})
    pool = Pool(root / "pool")
    stream = stream_of(path, pool)
    assert stream.counts() == {REAL: 12, "autoencoder of some-vae": 12} and stream.pictures == 24
    assert stream.batch(0, 2).samples == [] and len(stream.batch(0, 2).damaged) == 16, "nothing is reconstructed yet"

    made: list[float] = []

    def counted(name: str, pixels: NDArray[np.uint8], strength: float, seed: int) -> NDArray[np.uint8]:
        assert (name, pixels.shape) == ("some-vae", (64, 64, 3))
        made.append(strength)
        if len(made) == 5:
            stop.set()
        return marked(name, pixels, strength, seed)

    stop = threading.Event()
    assert pool.prepare(stream.windows(), counted, 80, stop) == [] and len(made) == 5
    stop = threading.Event()
    made.append(0)  # so that it does not stop again
    pool.prepare(stream.windows(), counted, 80, stop)
    assert len(made) == 13 and set(made) == {0, 0.2}, "those of the first time are kept"
    crops = stream.batch(0, 16).samples
    for real, other in zip(crops[::2], crops[1::2], strict=True):
        assert np.array_equal(other.pixels, marked("", real.pixels, 0, 0))

    again = Pool(root / "pool", identify=lambda name: f"{name} of other weights")
    other = stream_of(path, again)
    assert other.digest() != stream.digest() and not any(window.file.exists() for _, window in other.windows())

    path = mix_of(root, source | {"align": "real"}, augment={"history": 1, "flip": 0.5, "blur": 0})
    jpegs = stream_of(path, Pool(root / "other", marked))
    for index in range(4):
        pair = jpegs.batch(index, 2).samples
        left, right = (crop.pixels.astype(float).mean(2).ravel() for crop in pair)
        assert np.corrcoef(left, right)[0, 1] > 0.9, "the same crop, mirrored alike"


def test_a_photo_and_what_was_made_of_it_are_on_one_side(root: Path) -> None:
    for name, ending in (("real", "jpg"), ("made", "png"), ("laundered", "png")):
        pictures(root / name, 40, ending)
    for path in list((root / "laundered").iterdir()):
        path.rename(path.with_name(path.name.replace("laundered", "real")))
    sources = (R, G, {"laundered": "laundered"})
    path = mix_of(root, *sources, validation={"share": 0.4, "calibration_share": 0.3, "seed": 2})
    sides = {side: stream_of(path, side=side) for side in ("train", "validation", "calibration")}
    names = {
        side: {part.source.name: {p.sample.image.stem for p in part.pictures} for part in stream._parts}
        for side, stream in sides.items()
    }
    assert all(one["r"] == one["laundered"] for one in names.values())
    assert sum(len(one["r"]) for one in names.values()) == len(set().union(*(one["r"] for one in names.values()))) == 40
    assert LAUNDERED in sides["train"].generators
    assert LAUNDERED not in stream_of(path, laundered=False).generators
    groups = [crop.group for crop in sides["validation"].batch(0, 8).samples if crop.generated]
    assert groups.count(LAUNDERED) == groups.count("Alpha") == 2


def test_a_damaged_picture_is_passed_over_and_named(root: Path) -> None:
    (root / "made" / "made03.png").write_bytes((root / "made" / "made03.png").read_bytes()[:900])
    (root / "made" / "made04.png").write_bytes(b"nothing")
    pictures(root / "small", 1, "png", side=24)
    (root / "small" / "small00.png").rename(root / "made" / "small00.png")
    stream = stream_of(mix_of(root, R, G))
    assert any("made04.png" in line for line in stream.problems)
    assert "g: 1 pictures smaller than the crop of 32 pixels" in stream.problems
    batches = [stream.batch(index, 8) for index in range(6)]
    assert all(len(batch.samples) == 8 for batch in batches)
    assert any("made03.png" in line for batch in batches for line in batch.damaged)
    assert any("made03.png" in line for line in stream.damaged())


def test_lists_give_the_pictures_of_their_class(root: Path) -> None:
    lines = ["image,label"] + [
        f"{k}/{k}{n:02}.{e},{c}" for k, e, c in (("real", "jpg", 0), ("made", "png", 1)) for n in (1, 2)
    ]
    (root / "all.csv").write_text("\n".join(lines))
    stream = stream_of(mix_of(root, {"name": "r", "real": "all.csv"}, {"name": "g", "generated": ["all.csv"]}))
    assert stream.counts() == {REAL: 2, "g": 2}


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([R], "no source has generated pictures"),
        ([G], "no source has real pictures"),
        ([R, G | {"weight": 0}], "no source has generated pictures"),
        ([R, G, {"align": "real"}], "`autoencoder` is missing"),
        ([R, {"pairs": "made"}], "`pairs` is a source of --task localization"),
        ([R, {"casia2": "made"}], "unknown key `casia2`"),
        ([R, {"generated": "nowhere"}], r"line 1, sources\[1\].generated.*a folder that exists, or a list"),
        ([R, G, {"align": "real", "autoencoder": "x", "strengths": [9]}], r"sources\[2\].strengths.*from 0 to 3"),
    ],
)
def test_wrong_mixes(root: Path, sources: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_synthetic_mix(mix_of(root, *sources))


def test_a_mix_of_the_other_task(root: Path) -> None:
    with pytest.raises(ConfigError, match="`real` is a source of --task synthetic"):
        load_mix(mix_of(root, R, G))


def test_a_side_without_a_class(root: Path) -> None:
    (root / "empty").mkdir()
    path = mix_of(root, R, {"generated": "empty"})
    with pytest.raises(ConfigError, match="no generated picture on the train side"):
        stream_of(path)
