"""The stream: a pure function of seed and number, two sides without a common photo, damage listed and survived."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.config import ConfigError
from model.data.forge import Forgery, forge
from model.data.mix import (
    Augment,
    Authentic,
    Curriculum,
    Forge,
    MaskFolder,
    Mix,
    NamedSet,
    Pairs,
    Shape,
    Source,
    Validation,
)
from model.data.sources import crop_box
from model.data.stream import Batch, Stream

PLAIN = Augment(flip=0, rescale=0, history=0, aligned=0.5, focus=0.75)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pairs of 96×80 pixels, a photo each in a colour of its own, and four masks of objects."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in ("images", "masks", "photos", "objects"):
        (root / name).mkdir()
    for number in range(12):
        pixels = rng.integers(0, 256, (80, 96, 3), dtype=np.uint8)
        pixels[..., 0] = number  # says which photo it is
        mask = np.zeros((80, 96), np.uint8)
        mask[24:40, 16:48] = 255
        Image.fromarray(pixels).save(root / "images" / f"c{number}.png")
        Image.fromarray(mask).save(root / "masks" / f"c{number}.png")
        Image.fromarray(pixels).save(root / "photos" / f"p{number}.png")
        Image.fromarray(mask).save(root / "objects" / f"p{number}_1.png")
    return root


def mix_of(
    *data: Any, augment: Augment = PLAIN, shapes: tuple[Shape, ...] = (Shape(64, 64),), share: float = 0.3
) -> Mix:
    sources = tuple(Source(f"{n}", 1, d) for n, d in enumerate(data))
    return Mix(Path("mix.yaml"), sources, Validation(share, 1, 0.0), shapes, augment)


def pairs(folder: Path, **options: Any) -> Pairs:
    return Pairs(folder / "images", folder / "masks", **options)


def everything(folder: Path) -> Mix:
    forge = Forge((folder / "photos",), (MaskFolder(folder / "objects"),), Curriculum(0.5, 0.5, 0))
    shapes = (Shape(64, 64), Shape(64, 96, 0.5))
    return mix_of(pairs(folder), Authentic((folder / "photos",)), forge, augment=Augment(), shapes=shapes)


def same(a: Batch, b: Batch) -> bool:
    return a.damaged == b.damaged and all(
        x.source == y.source and np.array_equal(x.pixels, y.pixels) and np.array_equal(x.mask, y.mask)
        for x, y in zip(a.samples, b.samples, strict=True)
    )


def test_samples_are_what_the_trainer_expects(folder: Path) -> None:
    stream = Stream(everything(folder), seed=3)
    sizes, sources = set(), set()
    for index in range(12):
        batch = stream.batch(index, 3)
        assert len(batch.samples) == 3
        shape = stream.shape(index)
        assert {sample.pixels.shape for sample in batch.samples} == {(shape.height, shape.width, 3)}
        for sample in batch.samples:
            assert sample.pixels.dtype == np.uint8
            assert sample.mask.dtype == np.bool_
            assert sample.mask.shape == sample.pixels.shape[:2]
            assert sample.pixels.flags.c_contiguous
            assert sample.mask.flags.c_contiguous
            sources.add(sample.source)
        sizes.add(batch.samples[0].mask.shape)
    assert sizes == {(64, 64), (64, 96)}
    assert sources == {"0", "1", "2"}
    assert not stream.problems


def test_a_batch_depends_on_seed_and_number_alone(folder: Path) -> None:
    mix = everything(folder)
    stream, again = Stream(mix, seed=3), Stream(mix, seed=3)
    batches = [stream.batch(index, 2) for index in range(4)]
    assert all(same(again.batch(index, 2), batches[index]) for index in (3, 1, 0, 2))
    longer = stream.batch(0, 3)
    assert same(Batch(longer.samples[:2]), batches[0])
    assert not same(Stream(mix, seed=4).batch(0, 2), batches[0])


def _batch_elsewhere(stream: Stream, queue: Any) -> None:
    queue.put(stream.batch(5, 2))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_make_the_same_batches(folder: Path, method: str) -> None:
    stream = Stream(everything(folder), seed=3)
    expected = stream.batch(5, 2)  # photos are kept now, which must not be pickled
    assert len(pickle.dumps(stream)) < 20_000
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    worker = context.Process(target=_batch_elsewhere, args=(stream, queue))  # type: ignore[attr-defined]
    worker.start()
    assert same(queue.get(timeout=60), expected)
    worker.join()
    assert same(stream.batch(5, 2), expected)  # the worker took nothing away


def test_validation_takes_files_as_they_are(folder: Path) -> None:
    stream = Stream(mix_of(pairs(folder), augment=Augment(1, 1, 1, 0, 0)), "validation")
    for index in range(10):
        (sample,) = stream.batch(index, 1).samples
        with Image.open(folder / "images" / f"c{sample.pixels[0, 0, 0]}.png") as image:
            whole = np.asarray(image)
        corners = [(t, left) for t in (0, 8, 16) for left in (0, 8, 16, 24, 32)]
        assert any(np.array_equal(whole[t : t + 64, x : x + 64], sample.pixels) for t, x in corners)
        assert sample.mask.any()


@pytest.mark.parametrize(
    ("augment", "differs"),
    [(Augment(1, 0, 0), True), (Augment(0, 1, 0), True), (Augment(0, 0, 1), True), (Augment(0, 0, 0), False)],
    ids=["flip", "rescale", "history", "nothing"],
)
def test_augmentation(folder: Path, augment: Augment, differs: bool) -> None:
    stream = Stream(mix_of(pairs(folder), augment=augment, share=0))
    changed = []
    for index in range(8):
        (sample,) = stream.batch(index, 1).samples
        assert sample.mask.shape == (64, 64)
        number = int(np.median(sample.pixels[..., 0]))
        with Image.open(folder / "images" / f"c{min(11, number)}.png") as image:
            whole = np.asarray(image)
        windows = np.lib.stride_tricks.sliding_window_view(whole, (64, 64, 3))[:, :, 0]
        changed.append(not (windows == sample.pixels).all(axis=(2, 3, 4)).any())
    assert any(changed) == differs


def test_the_mask_follows_its_image(folder: Path, tmp_path: Path) -> None:
    """Forged pixels are white in the image too: they stay together through crop, flip and scale."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    with Image.open(folder / "masks" / "c0.png") as mask:
        mask.convert("RGB").save(tmp_path / "images" / "a.png")
        mask.save(tmp_path / "masks" / "a.png")
    for options in ({}, {"inverted": True}):
        mix = mix_of(pairs(tmp_path, **options), augment=Augment(0.5, 0.7, 0), shapes=(Shape(64, 128),), share=0)
        stream = Stream(mix)
        for index in range(30):
            (sample,) = stream.batch(index, 1).samples
            white = sample.pixels[..., 0] > 127
            truth = ~white if options else white
            assert (truth != sample.mask).mean() < 0.02, index


def test_damaged_files_are_replaced_and_listed(folder: Path, tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for number in range(4):
            (tmp_path / name / f"c{number}.png").write_bytes((folder / name / f"c{number}.png").read_bytes())
    good = Stream(mix_of(pairs(tmp_path), share=0))
    untouched = [good.batch(index, 1) for index in range(30)]
    (tmp_path / "images" / "c1.png").write_bytes(b"broken")
    Image.new("L", (5, 5)).save(tmp_path / "masks" / "c2.png")
    stream = Stream(mix_of(pairs(tmp_path), share=0))
    batches = [stream.batch(index, 1) for index in range(30)]
    assert all(len(batch.samples) == 1 for batch in batches)
    assert {int(batch.samples[0].pixels[0, 0, 0]) for batch in batches} == {0, 3}
    assert all(same(a, b) for a, b in zip(untouched, batches, strict=True) if not b.damaged)
    damaged = {line for batch in batches for line in batch.damaged}
    assert damaged == {
        f"{tmp_path}/images/c1.png: not a picture of a known format",
        f"{tmp_path}/masks/c2.png: the mask has 5×5 pixels, its image 96×80",
    }
    fitted = Stream(mix_of(pairs(tmp_path, fit_masks=True), share=0))
    assert {int(fitted.batch(i, 1).samples[0].pixels[0, 0, 0]) for i in range(30)} == {0, 2, 3}


def test_pictures_beyond_the_limit_are_not_decoded(folder: Path) -> None:
    mix = replace(mix_of(pairs(folder), Authentic((folder / "photos",))), max_megapixels=0.001)
    batch = Stream(mix).batch(0, 1)
    assert not batch.samples
    assert "96×80 pixels, more than max_megapixels 0.001" in batch.damaged[0]


def test_photos_that_cannot_be_forged_from_are_left_out(folder: Path, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"p{number}.png").write_bytes((folder / "photos" / f"p{number}.png").read_bytes())
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "cut.png").write_bytes((folder / "photos" / "p4.png").read_bytes()[:5000])
    Image.new("RGB", (20_000, 40)).save(tmp_path / "strip.png")  # 40 enlarged to 64 is 32,000 × 64
    Image.new("RGB", (31, 31)).save(tmp_path / "tiny.png")
    stream = Stream(mix_of(Forge((tmp_path,)), share=0))
    said = "to forge from, a photo needs 32 on each side, and one side at most 16 times the other"
    assert stream.problems == [
        f"{tmp_path}/strip.png: 20000×40 pixels; {said}",
        f"{tmp_path}/text.jpg: not a picture of a known format",
        f"{tmp_path}/tiny.png: 31×31 pixels; {said}",
    ]
    batches = [stream.batch(index, 2) for index in range(8)]
    assert all(len(batch.samples) == 2 for batch in batches)
    damaged = {line.split(": ")[0] for batch in batches for line in batch.damaged}
    assert damaged == {str(tmp_path / "cut.png")}  # found when it is drawn


def test_damaged_masks_of_objects_are_passed_over_and_listed(folder: Path, tmp_path: Path) -> None:
    Image.new("L", (96, 80), 255).save(tmp_path / "p0_1.png")
    Image.new("L", (80, 96), 255).save(tmp_path / "p1_1.png")
    (tmp_path / "p2_1.png").write_bytes(b"broken")
    (tmp_path / "p3_1.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 96 80\n")
    stream = Stream(mix_of(Forge((folder / "photos",), (MaskFolder(tmp_path),)), share=0))
    batches = [stream.batch(index, 1) for index in range(40)]
    assert all(len(batch.samples) == 1 for batch in batches)
    assert {line for batch in batches for line in batch.damaged} == {
        f"{tmp_path}/p1_1.png: the mask has 80×96 pixels, its photo 96×80",
        f"{tmp_path}/p2_1.png: not a picture of a known format",
        f"{tmp_path}/p3_1.png: not a picture of a known format",
    }


def test_what_is_left_out_is_listed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    both = mix_of(pairs(folder), Authentic((tmp_path / "empty",)), Forge((tmp_path / "empty",)))
    assert Stream(both).absent == ["1", "2"]
    assert Stream(both).problems == [
        "1: no image that can be used",
        "1: no image on the train side",
        "2: no image on the train side",
    ]


def test_splices_of_both_sides_are_counted(tmp_path: Path, folder: Path) -> None:
    names = [f"IMG_{a:07}_IMG_{b:07}" for a in range(6) for b in range(6) if a != b]
    for name in ("ColorRealImages", "ColorFakeImages", "SegmentationFake"):
        (tmp_path / name).mkdir()
    for name in names:
        (tmp_path / "ColorFakeImages" / f"{name}.jpg").touch()
        (tmp_path / "SegmentationFake" / f"{name}.npz").touch()
    stream = Stream(mix_of(NamedSet("fantastic-reality", tmp_path)))
    assert any("images made from photos of several sides" in problem for problem in stream.problems)


@pytest.mark.parametrize("side", ["train", "validation"])
def test_a_side_without_images_is_an_error(tmp_path: Path, side: Any) -> None:
    with pytest.raises(ConfigError, match=rf"mix\.yaml: no source has an image on the {side} side.+no image"):
        Stream(mix_of(Authentic((tmp_path,))), side)


@pytest.mark.parametrize(("weight", "share"), [(3, 0.75), (0, 0.0)])
def test_weights_say_how_often(folder: Path, weight: float, share: float) -> None:
    mix = mix_of(pairs(folder), Authentic((folder / "photos",)))
    stream = Stream(replace(mix, sources=(replace(mix.sources[0], weight=weight), mix.sources[1])), seed=1)
    drawn = [s.source for index in range(50) for s in stream.batch(index, 4).samples]
    assert np.mean([source == "0" for source in drawn]) == pytest.approx(share, abs=0.1 if weight else 0)


@pytest.mark.parametrize(
    ("side", "plain"), [("train", {0: 2, 10: 0, 10**13: 0}), ("validation", {0: 0, 10: 0}), ("calibration", {0: 0})]
)
def test_the_curriculum_follows_the_batch_in_training_alone(
    folder: Path, side: Any, plain: dict[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    plainly = []

    def forge_plainly(*arguments: Any) -> Forgery:
        plainly.append(True)
        return forge(*arguments)

    monkeypatch.setattr("model.data.stream.forge_plainly", forge_plainly)
    mix = replace(mix_of(Forge((folder / "photos",), (), Curriculum(1, 0, 10))), validation=Validation(0.3, 1, 0.3))
    stream = Stream(mix, side)
    for index, count in plain.items():
        plainly.clear()
        stream.batch(index, 2)
        assert len(plainly) == count


@pytest.mark.parametrize("size", [(80, 96), (64, 64), (20, 300), (3000, 50), (65, 71)])
@pytest.mark.parametrize("rescale", [0.0, 1.0])
def test_crops_lie_in_the_picture_and_keep_the_proportions(size: tuple[int, int], rescale: float) -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros(size, bool)
    mask[-1, -1] = True
    for _ in range(50):
        augment = Augment(rescale=rescale, aligned=0.5, focus=1)
        left, top, right, bottom = crop_box(*size, mask, Shape(64, 32), augment, rng)
        assert 0 <= left < right <= size[1]
        assert 0 <= top < bottom <= size[0]
        assert (bottom - top) / (right - left) == pytest.approx(2, rel=0.1)
        if not rescale and min(size) >= 64:
            assert (bottom - top, right - left) == (64, 32)


def test_crops_start_on_the_grid_and_find_what_is_small_as_often_as_asked() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((1000, 1000), bool)
    mask[400, 700] = True
    augment = Augment(rescale=0, aligned=0.5, focus=0.75)
    boxes = [crop_box(1000, 1000, mask, Shape(64, 64), augment, rng) for _ in range(400)]
    on_grid = np.mean([left % 8 == 0 and top % 8 == 0 for left, top, _, _ in boxes])
    assert on_grid == pytest.approx(0.5 + 0.5 / 64, abs=0.08)
    found = np.mean([mask[top:bottom, left:right].any() for left, top, right, bottom in boxes])
    assert found == pytest.approx(0.75, abs=0.08)


def test_masks_that_mark_nothing_are_listed_or_damage(folder: Path, tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for number in range(4):
            (tmp_path / name / f"c{number}.png").write_bytes((folder / name / f"c{number}.png").read_bytes())
    Image.new("L", (96, 80)).save(tmp_path / "masks" / "c2.png")
    (tmp_path / "masks" / "c3.png").write_bytes(b"broken")
    mix = mix_of(pairs(tmp_path), Authentic((folder / "photos",)), share=0)
    said = "0: 1 of 3 masks mark nothing (c2.png); their images count as authentic"
    assert Stream(mix).empty_masks() == [said]
    assert Stream(mix).empty_masks(most=1) == []
    for number in (0, 1, 3):
        Image.new("L", (96, 80)).save(tmp_path / "masks" / f"c{number}.png")
    said = "0: 4 of 4 masks mark nothing (c0.png, c1.png, c2.png, …); their images count as authentic"
    assert Stream(mix).empty_masks() == [said]
    strict = Stream(mix_of(pairs(tmp_path, empty_masks="damaged"), share=0))
    assert strict.empty_masks() == []
    (tmp_path / "masks" / "c0.png").write_bytes((folder / "masks" / "c0.png").read_bytes())
    batches = [strict.batch(index, 1) for index in range(20)]
    assert all(sample.mask.any() for batch in batches for sample in batch.samples)
    assert any("the mask marks nothing" in line for batch in batches for line in batch.damaged)


def test_other_files_have_another_digest(folder: Path, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"p{number}.png").write_bytes((folder / "photos" / f"p{number}.png").read_bytes())
    mixes = [mix_of(Authentic((tmp_path,)), share=0), mix_of(Forge((tmp_path,)), share=0)]
    before = [Stream(mix).digest() for mix in mixes]
    assert before == [Stream(mix, seed=4).digest() for mix in mixes]
    (tmp_path / "p2.png").rename(tmp_path / os.fsdecode(b"caf\xe9.png"))
    assert not set(before) & {Stream(mix).digest() for mix in mixes}


def test_no_photo_of_the_calibration_is_trained_or_validated_on(folder: Path) -> None:
    mix = replace(mix_of(pairs(folder), Forge((folder / "photos",))), validation=Validation(0.3, 1, 0.4))
    names = {}
    for side in ("train", "validation", "calibration"):
        files, made = Stream(mix, side)._parts
        names[side] = {e.image.stem for e in files.samples} | {p.stem for p in made.photos.paths}
    assert set().union(*names.values()) == {f"{kind}{n}" for kind in "cp" for n in range(12)}
    assert sum(map(len, names.values())) == 24


def test_the_shape_of_a_batch_says_nothing_of_the_source_of_its_first_sample(tmp_path: Path) -> None:
    """Of large crops a batch may have one sample only."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (32, 32)).save(tmp_path / name / f"{name}.png")
    sides = (Shape(32, 32), Shape(32, 40))
    stream = Stream(mix_of(*(Authentic((tmp_path / name,)) for name in ("a", "b")), shapes=sides, share=0))
    drawn = Counter((s.source, s.mask.shape) for index in range(80) for s in stream.batch(index, 1).samples)
    assert len(drawn) == 4
    assert min(drawn.values()) > 8
