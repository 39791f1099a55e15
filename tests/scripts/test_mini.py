"""The scripts that train, finish and measure `mini`, on small pictures and with a small network."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from model.branches.sam_attention import replace_attention
from model.calibration import FEATURES, Calibration
from model.checkpoint import inspect
from model.clue import build
from model.evaluation import Estimate
from model.presets import PRESETS
from model.presets.spec import RegionSpec
from model.self_match import CHANNELS, REPEATS
from model.storage import save
from model.training.calibrate import FOLDS, Scored
from tests.drawn_pictures import noise
from tests.scripts.conftest import SMALL
from tests.scripts.test_mini_samples import sample

NARROW = dataclasses.replace(SMALL, view=dataclasses.replace(SMALL.view, repeats=False))
"""As version 0.1.0 was: without the last maps."""
BIAS, VIEW = "localization.head.2.bias", "view.project.weight"


def run(module: object, monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["script", *map(str, words)])
    module.main()  # type: ignore[attr-defined]


def narrow_weights(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    save_file({k: v.contiguous() for k, v in build(NARROW).state_dict().items()}, folder / f"narrow{seed}.safetensors")
    return folder / f"narrow{seed}.safetensors"


# ---- Training --------------------------------------------------------------------------------------------------------


@pytest.fixture
def pools(scripts: SimpleNamespace, tmp_path: Path) -> tuple[Path, Path]:
    """Ten tiles to learn from, of three shapes, two of them authentic, and three to validate on, one of them so."""
    for number in range(10):
        tile = sample(scripts, *((64, 64), (64, 96), (96, 64))[number % 3], seed=number)
        tile.mask[:] &= number % 5 < 4
        scripts.forge_pool.save(tmp_path / "pool", f"1-{number:07}-0", tile)
    for number in range(3):
        held_out = sample(scripts, 64, 64, ("camera splice", "web removal", "screen authentic")[number], seed=number)
        held_out.mask[:] &= number < 2
        scripts.forge_pool.save(tmp_path / "held-out", f"1-{number:07}-0", held_out)
    return tmp_path / "pool", tmp_path / "held-out"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none here")
def test_on_a_gpu_recorded_updates_learn(scripts: SimpleNamespace, pools: tuple[Path, Path]) -> None:
    """From the second batch of a size on, each is a replay, on the pixels of its own batch."""
    torch.manual_seed(0)
    model = build(SMALL).to(memory_format=torch.channels_last)
    assert model.sam is not None
    replace_attention(model.sam.encoder)
    model = model.to("cuda").train()
    rate = torch.tensor(3e-3, device="cuda")
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, fused=True, capturable=True)
    update = scripts.train_mini.Update(model, optimizer, torch.Generator(), "cuda")
    pool = scripts.train_mini.Pool(pools[0], 4 * 64 * 96, "cuda")
    assert pool.look() == 10
    rng = np.random.default_rng(0)
    losses = [float(update(*pool.draw(rng)[:3])) for _ in range(60)]
    assert len(update.recorded) == 2  # of two sizes
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:10])
    images, masks, matches, _ = pool.draw(rng)
    for group in optimizer.param_groups:
        group["lr"].fill_(0.0)  # nothing is learned any more: what differs is what is seen
    wanted, other = float(update(images, masks, matches)), float(update(images, ~masks, matches))
    assert other > wanted + 0.1


def test_tiles_are_turned_as_a_whole(scripts: SimpleNamespace, pools: tuple[Path, Path]) -> None:
    pool = scripts.train_mini.Pool(pools[0], 4 * 64 * 96)
    assert pool.look() == 10
    kinds_of = {size: [len(tiles) for tiles in both] for size, both in pool.tiles.items()}
    assert kinds_of == {(64, 64): [1, 3], (64, 96): [1, 5]}  # authentic and forged
    rng, seen, forged = np.random.default_rng(0), set(), []
    for _ in range(30):
        images, masks, matches, kinds = pool.draw(rng)
        assert images.shape[2:] in ((64, 64), (64, 96)) and images.dtype == torch.uint8
        assert len(images) == len(kinds) == round(pool.pixels / (images.shape[2] * images.shape[3]))
        red = (images[:, 0] == 255) & (images[:, 1] == 0)
        assert torch.equal(red[:, ::8, ::8], matches[:, 0] > 0.5)
        forged += [bool(mask.any()) for mask in masks]
        assert all(torch.equal(a, b[0]) for a, b in zip(red, masks, strict=True) if b.any())
        seen |= {tuple(torch.nonzero(mask)[0].tolist()) for mask in red}
    assert len(seen) > 5
    assert np.mean(forged) == pytest.approx(scripts.train_mini.FORGED, abs=0.12)
    straight = scripts.train_mini.batch(pool.tiles[64, 64][1][:1])
    assert torch.equal(straight[0][0].permute(1, 2, 0), torch.from_numpy(sample(scripts, 64, 64).pixels))


def test_a_pool_may_grow(scripts: SimpleNamespace, pools: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pool = scripts.train_mini.Pool(pools[0], 64 * 64)
    assert pool.look() == 10
    scripts.forge_pool.save(pools[0], "1-0000010-0", sample(scripts, 64, 64))
    assert pool.look() == 10  # it is not looked for each time
    monkeypatch.setattr(scripts.train_mini, "LOOK_EVERY", 0.0)
    assert pool.look() == 11 and len(pool.tiles[64, 64][1]) == 4


def test_maps_that_are_new_start_at_nothing(scripts: SimpleNamespace, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model, old = build(SMALL).eval(), build(NARROW).eval()
    path = narrow_weights(tmp_path)
    assert scripts.train_mini.start_from(model, path).startswith(f"{len(model.state_dict())} of")
    old.load_state_dict(load_file(path))
    x, matches = torch.rand(1, 3, 64, 64), torch.rand(1, CHANNELS, 8, 8)
    noise = torch.randn(1, *model.latent_shape(64, 64))
    with torch.no_grad():
        assert torch.equal(model.view.project.weight[:, -REPEATS:], torch.zeros(SMALL.view.channels, REPEATS, 1, 1))
        torch.testing.assert_close(model(x, noise, matches), old(x, noise, matches))
    torch.save({"average": build(SMALL).state_dict()}, tmp_path / "latest.pt")
    scripts.train_mini.start_from(model, tmp_path / "latest.pt")
    assert model.view.project.weight[:, -REPEATS:].abs().min() > 0


@pytest.mark.usefixtures("small")
def test_a_training_logs_validates_and_goes_on(
    scripts: SimpleNamespace,
    pools: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ("--pool", pools[0], "--held-out", pools[1], "--out", tmp_path / "run", "--batch", 1, "--wait", 10)
    run(scripts.train_mini, monkeypatch, *words, "--minutes", 1e-4, "--init", narrow_weights(tmp_path))
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert rows[0]["step"] == 0 and rows[0]["n"] == 2
    assert {"f1", "f1 camera splice", "f1 web removal", "marked", "marked screen"} <= set(rows[0])
    assert rows[-1]["step"] >= 1 and rows[-1]["tiles"] == 10 and rows[-1]["n"] == 2
    assert rows[-1]["loss"] > 0 and 0 <= rows[-1]["f1"] <= 1
    said = capsys.readouterr().out
    assert "10 tiles, 3 held out" in said and "going on" not in said
    first = torch.load(tmp_path / "run" / "latest.pt", weights_only=True)
    assert first["step"] == rows[-1]["step"] and first["views"] == first["step"] * rows[-1]["views"] / rows[-1]["step"]
    assert not torch.equal(first["model"][BIAS], load_file(tmp_path / "narrow0.safetensors")[BIAS])

    run(scripts.train_mini, monkeypatch, *words, "--minutes", 1e-4)
    assert f"going on from step {first['step']}" in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == first["step"] + 1  # its time is over
    assert [row["step"] for row in rows].count(0) == 1
    assert torch.load(tmp_path / "run" / "latest.pt", weights_only=True)["spent"] >= first["spent"]


# ---- Pictures that no training saw -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def held_out(scripts: SimpleNamespace, data: Path, screens: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scripts.made_pictures, "LARGE_SIDE", 200)
        return scripts.made_pictures.HeldOut(data, screens)


@pytest.mark.parametrize("group", ["native", "web", "copy_moves", "splices", "documents"])
@pytest.mark.usefixtures("small")
def test_made_pictures_are_whole_and_the_same_each_time(held_out: Any, group: str) -> None:
    pictures, again = (list(getattr(held_out, group)(3, 4)) for _ in range(2))
    assert len(pictures) == 4
    for made, same in zip(pictures, again, strict=True):
        assert np.array_equal(made.pixels, same.pixels) and made.source == same.source
        assert made.mask.shape == made.pixels.shape[:2] and made.mask.any() == made.forged
        assert made.half in (0, 1) and made.source
    assert any(made.forged for made in pictures)
    assert len({made.group for made in pictures}) == 1


@pytest.mark.usefixtures("small")
def test_untouched_pictures_of_every_kind(held_out: Any) -> None:
    found, other = list(held_out.untouched(0)), list(held_out.untouched(1))
    assert {made.group for made in found} == {"camera", "web", "recompressed", "screen"}
    assert not any(made.forged or made.mask.any() for made in found)
    web, again = ([made for made in found if made.group == group] for group in ("web", "recompressed"))
    assert [made.source for made in web] == [made.source for made in again]
    assert all(not np.array_equal(a.pixels, b.pixels) for a, b in zip(web, again, strict=True))
    shown, hidden = ([made.pixels for made in part if made.group == "screen"] for part in (found, other))
    assert len(shown) == len(hidden) == 2  # a screen and a page each
    assert not any(np.array_equal(a, b) for a in shown for b in hidden)
    assert len(found) == len(other)
    sources = {made.source for made in found}
    halves = {(made.source, made.half) for made in found}
    assert len(halves) == len(sources) and {half for _, half in halves} == {0, 1}


def test_donors_are_of_the_same_half(scripts: SimpleNamespace, held_out: Any) -> None:
    def half(path: Path) -> int:
        model = scripts.mini_samples.camera_model(path)
        return int(scripts.made_pictures.untouched(noise(8, 8), "", model).half)

    for number, path in enumerate(held_out.cameras.paths):
        bank = held_out._same_half(held_out.cameras, number)
        assert bank.paths[0] == path and len(set(bank.paths)) == len(bank.paths)
        assert {half(other) for other in bank.paths} == {half(path)}
    sides = [{path.name for path in held_out._half(side, (64, 64)).paths} for side in (0, 1)]
    assert all(sides) and not sides[0] & sides[1]
    assert sides[0] | sides[1] == {path.name for path in held_out.photos.paths}
    assert len(held_out._half(0, (512, 520)).paths) == len(sides[0]), "up to 0.4 megapixels every photo is large enough"
    large = [side for side in (0, 1) for _ in held_out._half(side, (640, 640)).paths]
    assert len(large) <= 1  # of 409,600 pixels, only from photos with nearly as many


def test_small_regions_are_small(scripts: SimpleNamespace, held_out: Any, small: None) -> None:
    for made in held_out.small(3):
        assert made.forged and 0 < made.mask.mean() < scripts.made_pictures.SMALL


OF_NOTHING = pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value encountered")
"""Of so few pictures, some halves of a group have no forged one, and no AUC."""

# ---- Finishing -------------------------------------------------------------------------------------------------------


def test_weights_are_averaged_with_narrower_ones(scripts: SimpleNamespace, tmp_path: Path) -> None:
    one = {"a": torch.tensor([1.0, 3.0]), VIEW: torch.ones(2, 3, 1, 1)}
    other = {"a": torch.tensor([3.0, 3.0]), VIEW: torch.full((2, 2, 1, 1), 2.0)}
    found = scripts.finish_mini.averaged(one, other, 0.25)
    assert found["a"].tolist() == [1.5, 3.0]
    assert found[VIEW][0, :, 0, 0].tolist() == [1.25, 1.25, 0.75]
    save_file({"a": torch.tensor([1.0]).half()}, tmp_path / "model.safetensors")
    assert scripts.finish_mini.weights_of(tmp_path / "model.safetensors")["a"].dtype == torch.float32


def looked(scripts: SimpleNamespace, group: str, forged: bool, inside: float, outside: float) -> Any:
    """What a network says of one square, as log-odds."""
    pixels, mask = noise(64, 96), np.zeros((64, 96), bool)
    mask[16:48, 16:48] = True
    logits = np.where(mask, inside, outside).astype(np.float16)
    made = scripts.made_pictures.Made(pixels, mask & forged, group, "splice" if forged else "authentic", "source")
    return scripts.finish_mini.Looked(made, logits, screen=False)


@pytest.mark.parametrize(
    ("peak", "marked_from", "shift"),
    [
        (0.25, 9.0, 0.25),
        (-0.5, 9.0, -0.5),
        (1.0, 0.3, 0.25),  # more would mark too much of authentic pictures
        (1.0, -9.0, -1.25),  # nothing is little enough: as little as can be
    ],
)
def test_the_operating_point_marks_what_it_can(
    scripts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, peak: float, marked_from: float, shift: float
) -> None:
    """F1 falls off on both sides of a peak, and from some shift on too much is marked; one pair of constants helps."""
    usual, looked_at = PRESETS["mini"].regions, list[int]()
    better = next(one for one in (RegionSpec(*pair) for pair in scripts.finish_mini.REGIONS) if one != usual)

    def table(some: list[Any], shift: float, regions: RegionSpec) -> dict[str, float]:
        looked_at.append(len(some))
        too_much = 0.5 + shift / 10 if shift > marked_from else 0.01
        return {"f1": 0.6 - abs(shift - peak) / 10 + (0.01 if regions == better else 0), "marked": too_much}

    monkeypatch.setattr(scripts.finish_mini, "table", table)
    found, regions = scripts.finish_mini.chosen([None] * 301)
    assert found == shift
    assert regions == (better if marked_from > -9 else usual)
    assert set(looked_at) == {101} and len(looked_at) < 20


def test_the_table_is_by_group(scripts: SimpleNamespace) -> None:
    found = scripts.finish_mini.table(
        [
            looked(scripts, "camera", True, 3, -4),
            looked(scripts, "splices", True, -3, -4),
            looked(scripts, "camera", False, -3, -4),
            looked(scripts, "screen", False, 3, 3),
        ],
        0.0,
        RegionSpec(),
    )
    assert found["f1 camera"] > 0.8 and found["f1 splices"] == 0
    assert found["f1"] == pytest.approx(found["f1 camera"] / 2)
    assert (found["marked camera"], found["marked screen"], found["marked"]) == (0, 1, 1)


def told_apart(count: int = 160) -> tuple[Scored, NDArray[np.str_]]:
    """Features of two groups, the second of which nothing tells apart; photographs all."""
    rng = np.random.default_rng(0)
    forged = np.arange(count) % 2 == 1
    groups = np.where(np.arange(count) < count // 2, "camera", "lamps")
    features = rng.normal(0, 1, (count, len(FEATURES)))
    features[:, 0] += 6 * (forged & (groups == "camera"))
    features[:, FEATURES.index("colours")] += 20
    return Scored(features, forged, np.arange(count) // 2 % 2 == 1, np.ones(count), groups), groups


def test_each_half_is_judged_by_the_other(scripts: SimpleNamespace) -> None:
    scored, groups = told_apart()
    found = scripts.finish_mini.across_halves(scored, groups)
    assert set(found) == {"camera forged", "camera untouched", "camera auc"} | {
        "lamps forged", "lamps untouched", "lamps auc"
    }  # fmt: skip
    assert found["camera auc"] > 0.95 and 0.2 < found["lamps auc"] < 0.8
    assert found["camera forged"]["forged"]["n"] == 40 and found["camera forged"]["forged"]["share"] > 0.3
    assert found["camera untouched"]["forged"]["share"] < 0.1 > found["lamps untouched"]["forged"]["share"]
    low, high = found["camera untouched"]["forged"]["interval"]
    assert low <= found["camera untouched"]["forged"]["share"] <= high


@OF_NOTHING
@pytest.mark.usefixtures("small")
def test_finish(
    scripts: SimpleNamespace,
    data: Path,
    screens: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A random network tells nothing: what is fitted on its scores is left out."""
    fit = Calibration(name="made", score_weights=(0.0,) * (len(FEATURES) + 1))
    monkeypatch.setattr(scripts.finish_mini, "calibration_of", lambda *_: fit)
    monkeypatch.setattr(scripts.finish_mini, "fitted", lambda _: fit)
    (tmp_path / "run").mkdir()
    torch.manual_seed(2)
    state = {"average": build(SMALL).state_dict(), "step": 12, "spent": 180.0}
    torch.save(state, tmp_path / "run" / "latest.pt")
    earlier = narrow_weights(tmp_path, 3)
    out = tmp_path / "out"
    words = ("--run", tmp_path / "run", "--data", data, "--screens", screens, "--out", out, "--scale", 0.02)
    run(scripts.finish_mini, monkeypatch, *words, "--earlier", earlier, "--earlier-share", 0.5)
    told = json.loads(capsys.readouterr().out)
    assert (told["training"]["steps"], told["training"]["minutes"]) == (12, 3)
    assert told["calibration"]["name"] == inspect(str(out)).calibration.name == "made"
    groups = {"camera", "web", "recompressed", "screen", "native"}
    assert {name.removeprefix("marked ") for name in told["pixels"] if name.startswith("marked ")} >= groups
    assert {name for name in told["pixels"] if name.startswith("f1 ")} == {
        f"f1 {name}" for name in ("native", "web", "copy-moves", "splices", "documents")
    }
    assert "native auc" in told["across halves"] and "screen untouched" in told["across halves"]
    stored, shift = load_file(out / "model.safetensors"), told["training"]["logit_shift"]
    expected = (state["average"][BIAS] + load_file(earlier)[BIAS]) / 2 + shift
    assert torch.allclose(stored[BIAS].float(), expected, atol=2e-2)
    assert stored[VIEW].shape[1] == state["average"][VIEW].shape[1]
    with np.load(out / "scored.npz") as kept:
        assert kept["features"].shape == (len(kept["groups"]), len(FEATURES))
        assert len(kept["sources"]) == len(kept["forged"]) == len(kept["groups"])
        by_source = {str(source): int(fold) for source, fold in zip(kept["sources"], kept["folds"], strict=True)}
        assert all(by_source[str(s)] == f for s, f in zip(kept["sources"], kept["folds"], strict=True))
        camera = {by_source[str(source)] for source in kept["sources"][kept["groups"] == "camera"]}
        assert any(fold % 2 for fold in camera) and {*by_source.values()} == set(range(FOLDS))


@OF_NOTHING
@pytest.mark.usefixtures("small")
def test_finish_with_narrow_weights_and_a_known_point(
    scripts: SimpleNamespace,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without screens, and of the made pictures a few only."""
    fit = Calibration(name="made", score_weights=(0.0,) * (len(FEATURES) + 1))
    monkeypatch.setattr(scripts.finish_mini, "calibration_of", lambda *_: fit)
    monkeypatch.setattr(scripts.finish_mini, "fitted", lambda _: fit)
    monkeypatch.setattr(scripts.finish_mini, "pictures", lambda made, seed, scale: list(made.native(seed, 4)))
    weights = narrow_weights(tmp_path)
    run(
        scripts.finish_mini, monkeypatch, "--run", weights, "--data", data, "--out", tmp_path / "out", "--shift", 0.25
    )  # fmt: skip
    told = json.loads(capsys.readouterr().out)
    assert (told["training"]["steps"], told["training"]["logit_shift"]) == (0, 0.25)
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert not stored[VIEW][:, -REPEATS:].any() and stored[VIEW][:, :-REPEATS].any()
    assert torch.allclose(stored[BIAS].float(), load_file(weights)[BIAS] + 0.25, atol=2e-2)


# ---- Measuring -------------------------------------------------------------------------------------------------------

BARS = {
    "F1 on CASIA v1",
    "share of it kept after JPEG 70",
    "image-level AUC on CASIA v1, both classes re-encoded as JPEG 90",
    "area marked on authentic images of CASIA v1",
    "camera originals called forged",
    "camera originals called inconclusive",
    "screens, drawings and pages called forged",
    "image-level AUC, forgeries from camera originals against untouched ones",
    "forgeries from camera originals called forged",
    "F1 on copy-moves of 512² and more",
    "F1 on pictures with several splices",
    "F1 on documents",
    "F1 on regions under 1 % in made pictures of 1024×768",
}


@pytest.mark.usefixtures("small")
def test_measure(
    scripts: SimpleNamespace,
    data: Path,
    screens: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.manual_seed(0)
    save(tmp_path / "model", build(SMALL), Calibration(name="tiny"), {}, dtype=torch.float32)
    words = ("--model", tmp_path / "model", "--dtype", "float32", "--data", data, "--screens", screens)
    more = ("--scale", 0.02, "--parts", 2, "--json", tmp_path / "m.json")
    run(scripts.measure_mini, monkeypatch, data / "set", *words, *more)
    found = json.loads((tmp_path / "m.json").read_text())
    assert [problem["name"] for problem in found["problems"]] == ["Tp/Sp_S_nothing says what is forged.png"]
    assert "nothing says what is forged" in capsys.readouterr().err
    assert found["mini"]["f1"]["n"] == found["mini after JPEG 70"]["f1"]["n"] == 4
    assert (found["mini"]["splice"]["n"], found["mini"]["copy-move"]["n"]) == (3, 1)
    assert found["all forged"]["f1"]["value"] == pytest.approx(2 * 1280 / (6144 + 1280), abs=1e-4)
    assert found["native"]["auc"]["n"] == 4 and found["screen"]["untouched called forged"]["n"] == 2
    assert found["small regions"]["f1"]["n"] == 5 and found["copy-moves"]["sources"] <= 2
    assert set(found["parts switched off, every 2. forged image"]) == set(scripts.parts_off.PARTS)
    assert set(found["bars"]) == BARS
    for bar in found["bars"].values():
        below, limit = bar["bar"].startswith("≤"), float(bar["bar"][2:])
        value = bar["value"]
        assert bar["met"] == (value is not None and (value <= limit if below else value >= limit))


@pytest.mark.parametrize(
    ("value", "at_most", "met"),
    [(0.3, False, True), (0.29, False, False), (0.3, True, True), (0.31, True, False), (None, False, False)],
)
def test_a_bar(scripts: SimpleNamespace, value: float | None, at_most: bool, met: bool) -> None:
    assert scripts.measure_mini.Bar("x", 0.3, Estimate(value, 5), at_most).to_dict()["met"] is met


def test_pictures_of_one_photo_are_drawn_together(scripts: SimpleNamespace) -> None:
    measure = scripts.measure_mini
    values = [0.0] * 50 + [1.0] * 50
    alike = measure.by_photo(measure.mean_of(values), ["a"] * 50 + ["b"] * 50)
    apart = measure.by_photo(measure.mean_of(values), [str(number) for number in range(100)])
    assert (alike.value, alike.low, alike.high) == (0.5, 0.0, 1.0)
    assert 0.38 < apart.low < apart.high < 0.62


def test_figures_are_by_group(scripts: SimpleNamespace) -> None:
    measure, empty = scripts.measure_mini, np.zeros((0, 4, 3), np.uint8)
    told = [
        ("native", "splice", "a", 0.8, 0.9, "forged"),
        ("native", "removal", "b", 0.2, 0.6, "inconclusive"),
        ("native", "authentic", "a", float("nan"), 0.1, "no_evidence"),
        ("native", "authentic", "b", float("nan"), 0.7, "forged"),
        ("screen", "authentic", "c", float("nan"), 0.3, "inconclusive"),
    ]
    found = [
        measure.Judged(scripts.made_pictures.Made(empty, empty[..., 0] > 0, group, kind, source), f1, 0.25, score, said)
        for group, kind, source, f1, score, said in told
    ]
    figures = measure.figures_of_made(found)
    assert set(figures) == {"native", "screen"} and "f1" not in figures["screen"]
    assert figures["native"]["sources"] == 2 and figures["native"]["f1"]["value"] == pytest.approx(0.5)
    assert figures["native"]["f1 removal"] == {"value": 0.2, "n": 1, "low": 0.2, "high": 0.2}
    assert figures["native"]["auc"]["value"] == 0.75
    assert figures["native"]["forged called forged"]["value"] == 0.5
    assert figures["native"]["untouched called forged"]["value"] == 0.5
    assert figures["screen"]["untouched called inconclusive"]["value"] == 1
    assert figures["screen"]["marked on untouched"]["value"] == 0.25


def test_a_set_without_forged_images_says_so(
    scripts: SimpleNamespace, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Tp").mkdir()
    (tmp_path / "Gt").mkdir()
    (tmp_path / "Au").symlink_to(data / "set" / "Au")
    with pytest.raises(SystemExit, match="0 forged images with a mask and 4 authentic"):
        run(scripts.measure_mini, monkeypatch, tmp_path)
