"""Same image, same mask; tiles as untiled; out of memory costs one image, not the run."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model import predictor as module
from model.clue import CLUE, build
from model.cuda_graphs import Graphs, Run
from model.device import ran_out_of_memory
from model.predictor import HELPERS, Blend, OutOfMemory, Prediction, Predictor, padded, starts, tiles, weights
from model.preset import EdgeSpec, LevelSpec, RegionSpec, TileSpec
from model.rectified_flow import content_seed, seeded_noise
from model.self_match import CHANNELS, self_match
from tests.tiny_model import TINY

Pixels = NDArray[np.uint8]
Images = list[tuple[int, Pixels]]

VIEWS: dict[str, Callable[[Pixels], Pixels]] = {
    "flipped": lambda pixels: pixels[:, ::-1],
    "upside down": lambda pixels: np.rot90(pixels, 2),
    "turned left": lambda pixels: np.rot90(pixels),
    "turned right": lambda pixels: np.rot90(pixels, -1),
    "transposed": lambda pixels: np.swapaxes(pixels, 0, 1),
}


@pytest.fixture(autouse=True)
def tiles_alone(network: CLUE, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done to the heatmap as a whole has tests of its own; here it is what the network says of the tiles."""
    monkeypatch.setattr(
        network,
        "preset",
        dataclasses.replace(network.preset, level=LevelSpec(), edges=EdgeSpec(), regions=RegionSpec()),
    )


def pictures() -> Images:
    rng = np.random.default_rng(0)
    sizes = [(96, 128), (96, 128), (40, 50), (200, 300), (96, 128), (131, 77)]
    return [(number, rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for number, size in enumerate(sizes)]


def heatmaps(predictor: Predictor, images: Images) -> dict[int, NDArray[np.float32]]:
    found = {}
    for prediction in predictor.predict(images):
        assert isinstance(prediction, Prediction)
        found[prediction.key] = prediction.heatmap
    return found


def test_on_the_cpu_there_are_no_graphs(network: CLUE) -> None:
    assert not isinstance(Predictor(network, graphs=True)._probabilities, Graphs)


def test_replayed_it_is_what_it_is_call_by_call(network: CLUE) -> None:
    """With stand-ins that compute again where a card would replay: each picture gets its own heatmap."""
    images = [(number, pixels) for number, (_, pixels) in enumerate(pictures() * 3)]
    expected = heatmaps(Predictor(network, 2), images)
    predictor = Predictor(network, 2)
    predictor._probabilities = graphs = Graphs(predictor._forward, Again)
    predictor.lanes = predictor.ahead = 0
    for key, heatmap in heatmaps(predictor, images).items():
        assert np.array_equal(heatmap, expected[key])
    assert graphs.held


class Again:
    """What a graph does, by computing."""

    def __init__(self, run: Run, inputs: tuple[Tensor | None, ...]) -> None:
        self.run, self.inputs = run, tuple(None if one is None else torch.zeros_like(one) for one in inputs)
        self.result = torch.zeros_like(run(*self.inputs))

    def replay(self) -> None:
        self.result.copy_(self.run(*self.inputs))


def with_lanes(predictor: Predictor) -> Predictor:
    """As on a CPU of several cores, whatever this one has."""
    return set_lanes(predictor, 2)


def set_lanes(predictor: Predictor, lanes: int) -> Predictor:
    predictor.lanes = predictor.ahead = lanes
    predictor.helpers = max(1, lanes)
    return predictor


class TestBits:
    """What is promised to the bit, in each number format, whichever of them this machine would choose.

    `tests.model.test_instruction_sets` runs some of it as on CPUs that know less.
    """

    @pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
    def network(self, network: CLUE, request: pytest.FixtureRequest) -> CLUE:
        return network.to(request.param)

    def test_alone_together_and_in_another_order_to_the_bit(self, network: CLUE) -> None:
        images = pictures()
        together = heatmaps(Predictor(network), images)
        backwards = heatmaps(Predictor(network), images[::-1])
        for key, pixels in images:
            alone = heatmaps(Predictor(network), [(key, pixels)])
            assert together[key].shape == pixels.shape[:2]
            assert np.array_equal(together[key], alone[key])
            assert np.array_equal(together[key], backwards[key])
            assert together[key].std() > 0

    def test_what_else_is_in_a_batch_does_not_matter(self, network: CLUE) -> None:
        """To the bit: a batch always has its full size, whether other tiles fill it or repetitions."""
        images = pictures()
        together = heatmaps(Predictor(network, 4), images)
        for key, pixels in images:
            assert np.array_equal(heatmaps(Predictor(network, 4), [(key, pixels)])[key], together[key])

    @pytest.mark.parametrize("largest", [1_048_576, 20_000], ids=["searched as it is", "searched reduced"])
    @pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
    def test_how_the_pixels_lie_in_memory_does_not_matter(
        self, network: CLUE, monkeypatch: pytest.MonkeyPatch, view: Callable[[Pixels], Pixels], largest: int
    ) -> None:
        """A turned photo comes as a view of the displayed one: its bits are those of one that lies in rows."""
        monkeypatch.setattr(network, "preset", TINY)  # with all that is done to a heatmap as a whole
        monkeypatch.setattr("model.self_match.LARGEST", largest)
        stored = view(pictures()[3][1])
        in_rows, as_it_lies = Predictor(network).predict([(0, np.ascontiguousarray(stored)), (1, stored)])
        assert isinstance(in_rows, Prediction) and isinstance(as_it_lies, Prediction)
        assert not stored.flags.c_contiguous
        assert as_it_lies.seed == in_rows.seed
        assert np.array_equal(as_it_lies.heatmap, in_rows.heatmap)
        assert np.array_equal(as_it_lies.features, in_rows.features)

    @pytest.mark.parametrize("batch", [1, 3])
    @pytest.mark.parametrize("lanes", [0, 2], ids=["ahead as on a GPU", "two threads"])
    def test_batches_under_way_change_nothing(self, network: CLUE, batch: int, lanes: int) -> None:
        """Same bits, same order; each thread computes with one core, and so does the caller's here."""
        images = [(number, pixels) for number, (_, pixels) in enumerate(pictures() * 2)]
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            alone, ahead = Predictor(network, batch), Predictor(network, batch)
            assert alone.lanes == 0, "one core"
            set_lanes(ahead, lanes)
            ahead.ahead = 2
            expected, found = heatmaps(alone, images), heatmaps(ahead, images)
        finally:
            torch.set_num_threads(threads)
        assert list(found) == list(expected)
        assert all(np.array_equal(found[key], expected[key]) for key in found)


@pytest.mark.parametrize("batch", [2, 3, 16])
def test_batches_agree_to_the_last_bits(network: CLUE, batch: int) -> None:
    images = pictures()
    single, batched = heatmaps(Predictor(network), images), heatmaps(Predictor(network, batch), images)
    assert list(batched) == [key for key, _ in images]  # in the order of the images
    for key in single:
        assert batched[key] == pytest.approx(single[key], abs=2e-6)


def test_bfloat16_agrees_within_the_stated_tolerance(network: CLUE) -> None:
    key, pixels = pictures()[3]
    full = heatmaps(Predictor(network), [(key, pixels)])[key]
    half = heatmaps(Predictor(network.to(torch.bfloat16)), [(key, pixels)])[key]
    assert half == pytest.approx(full, abs=0.02)


def test_what_fits_in_one_tile_is_the_untiled_result(network: CLUE) -> None:
    pixels = pictures()[0][1]
    heatmap = heatmaps(Predictor(network), [(0, pixels)])[0]
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    noise = seeded_noise(content_seed(pixels), 0, 0, network.latent_shape(96, 128))[None]
    with torch.inference_mode():
        matches = torch.from_numpy(self_match(pixels))[None]
        untiled = torch.sigmoid(network(x, noise, matches))[0, 0].numpy()
    assert heatmap == pytest.approx(untiled, abs=1e-6)


class Smooth(nn.Module):
    """Stands in for CLUE: says of each pixel its brightness, so that the right blend of any tiling is known."""

    def __init__(self, network: CLUE) -> None:
        super().__init__()
        self.preset = dataclasses.replace(network.preset, tile=TileSpec(128, 32, 16))
        self.weight = nn.Parameter(torch.zeros(1))
        self.latent_shape = network.latent_shape

    def forward(self, x: Tensor, noise: Tensor, matches: Tensor | None = None) -> Tensor:
        return torch.logit(x.mean(1, keepdim=True).clamp(0.01, 0.99))


def test_no_seams_on_a_smooth_target(network: CLUE) -> None:
    y, x = np.mgrid[:300, :420]
    brightness = (128 + 60 * np.sin(y / 40) + 50 * np.cos(x / 60)).astype(np.uint8)
    pixels = np.repeat(brightness[..., None], 3, 2)
    heatmap = heatmaps(Predictor(Smooth(network)), [(0, pixels)])[0]  # type: ignore[arg-type]
    assert heatmap == pytest.approx(brightness / 255, abs=1e-5)


@pytest.mark.parametrize("lanes", [0, 2])
def test_images_are_pulled_only_as_needed(network: CLUE, lanes: int) -> None:
    """As many as are searched, computed and completed at a time, and one more."""
    pulled = []

    def images() -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for key in range(12):
            pulled.append(key)
            yield key, pictures()[0][1]

    predictor = set_lanes(Predictor(network), lanes)
    assert predictor.holds == (2 if lanes == 0 else 6)
    results = predictor.predict(images())
    for count in (1, 2):
        next(results)
        assert len(pulled) <= count + predictor.holds


def test_only_a_small_network_on_several_cores_of_a_cpu_has_lanes(
    network: CLUE, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 4)
    assert Predictor(network).lanes == Predictor(network).helpers == 4
    monkeypatch.setattr("torch.get_num_threads", lambda: 64)
    assert Predictor(network).lanes == HELPERS
    monkeypatch.setattr("model.predictor.SMALL", 10)
    assert (Predictor(network).lanes, Predictor(network).helpers) == (0, 1)


def test_each_thread_keeps_its_number_of_cores(network: CLUE, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever others set meanwhile: sums that are split among other cores are other sums, in the last bits."""
    own, each = torch.get_num_threads(), 1
    seen: list[int] = []

    def elsewhere(function: Callable[[], object]) -> None:
        thread = threading.Thread(target=function)
        thread.start()
        thread.join()

    def spy(self: Predictor, *inputs: Tensor) -> Callable[[], NDArray[np.float32]]:
        elsewhere(lambda: torch.set_num_threads(each + 1))
        seen.append(torch.get_num_threads())
        return run(self, *inputs)

    run = Predictor._run
    monkeypatch.setattr(Predictor, "_run", spy)
    heatmaps(with_lanes(Predictor(network)), pictures())
    assert set(seen) == {each}
    elsewhere(lambda: seen.append(torch.get_num_threads()))
    assert seen[-1] == torch.get_num_threads() == own


def test_leaving_early_stops_the_threads(network: CLUE) -> None:
    before = threading.active_count()
    results = with_lanes(Predictor(network)).predict(pictures())
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_the_next_image_is_searched_while_the_network_has_this_one(
    network: CLUE, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits for the other to have begun: one after the other they would wait for ever."""
    searched, computed = threading.Event(), threading.Event()
    seen: list[int] = []

    def search(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(int(pixels[0, 0, 0]))
        if len(seen) == 2:
            searched.set()
            assert computed.wait(30), "the network does not have the first image"
        return self_match(pixels)

    def compute(x: Tensor, noise: Tensor, matches: Tensor) -> Tensor:
        assert searched.wait(30), "the second image is not searched"
        computed.set()
        return forward(x, noise, matches)

    forward = network.forward
    monkeypatch.setattr("model.predictor.self_match", search)
    monkeypatch.setattr(network, "forward", compute)
    images = [(number, np.full((64, 64, 3), number, np.uint8)) for number in range(3)]
    assert list(heatmaps(Predictor(network), images)) == seen == [0, 1, 2]


@pytest.mark.parametrize("part", ["self_match", "image_features"])
@pytest.mark.parametrize("error", [MemoryError("no room\nfor it"), RuntimeError("can't allocate memory: you tried")])
def test_a_search_or_heatmap_without_memory_costs_its_image_alone(
    network: CLUE, monkeypatch: pytest.MonkeyPatch, part: str, error: Exception
) -> None:
    real = getattr(module, part)

    def starved(*arguments: Pixels) -> object:
        if arguments[-1][0, 0, 0] == 1:  # the pixels
            raise error
        return real(*arguments)

    monkeypatch.setattr(module, part, starved)
    images = [(number, np.full((64, 64, 3), number, np.uint8)) for number in range(3)]
    results = list(Predictor(network).predict(images))
    assert [type(result) for result in results] == [Prediction, OutOfMemory, Prediction]
    assert results[1] == OutOfMemory(1, str(error).splitlines()[0])


@pytest.mark.parametrize("part", ["self_match", "Blend"])
def test_what_lacks_memory_beside_others_gets_it_alone(
    network: CLUE, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    real, failed = getattr(module, part), list[bool]()

    def starved(*arguments: object) -> object:
        if not failed:
            failed.append(True)
            raise MemoryError
        return real(*arguments)

    images = [(number, np.full((64, 64, 3), number, np.uint8)) for number in range(5)]
    plain = heatmaps(with_lanes(Predictor(network)), images)
    monkeypatch.setattr(module, part, starved)
    found = heatmaps(with_lanes(Predictor(network)), images)
    assert failed and list(found) == list(range(5))
    assert all(np.array_equal(heatmap, plain[key]) for key, heatmap in found.items())


def test_no_memory_to_blend_costs_its_image_alone(network: CLUE, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = Blend.add, list[bool]()

    def starved(*arguments: Any) -> None:
        calls.append(True)
        if len(calls) == 2:
            raise MemoryError
        real(*arguments)

    monkeypatch.setattr(Blend, "add", starved)
    images = [(number, np.full((64, 200, 3), number, np.uint8)) for number in range(3)]
    results = list(Predictor(network).predict(images))
    assert [(type(result), result.key) for result in results] == [(OutOfMemory, 0), (Prediction, 1), (Prediction, 2)]


def test_what_is_computed_once_more_has_the_bits_of_one_core(network: CLUE) -> None:
    threads = list[int]()

    class Once(Smooth):
        def forward(self, x: Tensor, noise: Tensor, matches: Tensor | None = None) -> Tensor:
            threads.append(torch.get_num_threads())
            if len(threads) == 1:
                raise MemoryError
            return super().forward(x, noise)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        results = list(with_lanes(Predictor(Once(network))).predict(pictures()[:1]))  # type: ignore[arg-type]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert isinstance(results[0], Prediction) and set(threads) == {1}


def test_any_other_error_is_not_taken_for_memory(network: CLUE, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("shape mismatch")

    for owner, name in ((network, "forward"), (module, "self_match")):
        with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="shape mismatch"):
            patch.setattr(owner, name, broken)
            list(Predictor(network).predict(pictures()))


class Starved(Smooth):
    """Fails as torch does on the CPU when a batch is larger than `room`, or a tile is bright."""

    room = 2

    def forward(self, x: Tensor, noise: Tensor, matches: Tensor | None = None) -> Tensor:
        if x.shape[0] > self.room or float(x.mean()) > 0.9:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate too much")
        return super().forward(x, noise)


@pytest.mark.parametrize("lanes", [0, 2])
def test_out_of_memory_halves_the_batch_and_loses_nothing(network: CLUE, lanes: int) -> None:
    images: Images = [(n, np.full((64, 64, 3), 20 * n, np.uint8)) for n in range(9)]
    predictor = Predictor(Starved(network), batch=8)  # type: ignore[arg-type]
    set_lanes(predictor, lanes)
    found = heatmaps(predictor, images)
    assert predictor.batch == 2
    for key, pixels in images:
        assert found[key] == pytest.approx(np.clip(pixels[..., 0] / 255, 0.01, 0.99), abs=1e-5)


def test_an_empty_batch_is_refused(network: CLUE) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Predictor(network, batch=0)


def test_tiles_get_their_part_of_the_matches_of_the_whole_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cell (i, j) of the picture reaches the network as cell (i, j), whichever tile it lies in."""
    rows, columns = 25, 38  # of a picture of 200×300, tiles of 128
    maps = np.arange(CHANNELS * rows * columns, dtype=np.float32).reshape(CHANNELS, rows, columns)
    monkeypatch.setattr("model.predictor.self_match", lambda pixels: maps)
    model = build(TINY).eval()
    seen: list[torch.Tensor] = []
    forward = model.forward

    def spy(x: Tensor, noise: Tensor, matches: Tensor) -> Tensor:
        seen.append(matches)
        return forward(x, noise, matches)

    monkeypatch.setattr(model, "forward", spy)
    pixels = np.zeros((200, 300, 3), np.uint8)
    predictor = Predictor(model)
    set_lanes(predictor, 0)  # of two at a time either may be seen first
    list(predictor.predict([("a", pixels)]))
    cut = tiles(200, 300, TINY.tile)
    assert len(seen) == len(cut) > 1
    for tile, matches in zip(cut, seen, strict=True):
        top, left = tile.top // 8, tile.left // 8
        part = maps[:, top : top + matches.shape[2], left : left + matches.shape[3]]
        assert np.array_equal(matches[0, :, : part.shape[1], : part.shape[2]].numpy(), part)
        assert matches[0, :, part.shape[1] :].sum() == 0 and matches[0, :, :, part.shape[2] :].sum() == 0


@pytest.mark.parametrize("lanes", [0, 2])
def test_out_of_memory_with_batches_under_way_loses_nothing(network: CLUE, lanes: int) -> None:
    images: Images = [(n, np.full((64, 200, 3), 250 if n == 4 else 20 * n, np.uint8)) for n in range(9)]
    predictor = Predictor(Starved(network), batch=4)  # type: ignore[arg-type]
    set_lanes(predictor, lanes)
    predictor.ahead = 2
    results = list(predictor.predict(images))
    assert [result.key for result in results] == list(range(9))
    (lost,) = (result for result in results if isinstance(result, OutOfMemory))
    assert lost.key == 4 and "allocate memory" in lost.message


@pytest.mark.parametrize("lanes", [0, 2])
def test_what_is_begun_is_finished_before_waiting(network: CLUE, lanes: int) -> None:
    predictor = Predictor(network, 8)
    set_lanes(predictor, lanes)
    predictor.ahead = 2
    (key, pixels), *_ = pictures()
    results = predictor.predict(iter([(key, pixels), None, (key + 1, pixels)]))
    assert next(results).key == key


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
    ],
)
def test_which_errors_are_of_memory(error: Exception, memory: bool) -> None:
    assert ran_out_of_memory(error) == memory


@pytest.mark.parametrize("lanes", [0, 2])
def test_the_seconds_of_images_do_not_overlap(network: CLUE, lanes: int) -> None:
    predictor = Predictor(network)
    set_lanes(predictor, lanes)
    began = time.perf_counter()
    results = list(predictor.predict(pictures() * 2))
    passed = time.perf_counter() - began
    seconds = [result.seconds for result in results if isinstance(result, Prediction)]
    assert len(seconds) == 12 and min(seconds) > 0
    assert 0.1 * passed < sum(seconds) <= passed


SPEC = TileSpec(size=128, overlap=32, multiple=16)
LENGTHS = [1, 15, 16, 127, 128, 129, 136, 200, 224, 225, 320, 333, 1000, 1001]


@pytest.mark.parametrize("spec", [SPEC, dataclasses.replace(SPEC, overlap=0)], ids=["overlapping", "side by side"])
@pytest.mark.parametrize("length", LENGTHS)
def test_tiles_cover_every_pixel_on_the_grid(length: int, spec: TileSpec) -> None:
    """Blending weights sum to one, and no more is computed than the overlap asks for."""
    segments = starts(length, spec)
    total = np.zeros(length)
    for (start, extent), weight in zip(segments, weights(length, spec), strict=True):
        assert weight.min() > 0
        total[start : start + extent] += weight
    assert total == pytest.approx(1.0, abs=1e-6)
    most = length + (len(segments) - 1) * spec.overlap + (len(segments) if length > spec.size else 0) * spec.multiple
    assert sum(extent for _, extent in segments) <= most
    covered = np.zeros(length, int)
    for start, extent in segments:
        assert start % spec.multiple == 0
        assert 0 < extent <= spec.size
        covered[start : start + extent] += 1
    assert covered.min() >= 1
    for (start, extent), (following, _) in itertools.pairwise(segments):
        assert start + extent - following >= spec.overlap


@pytest.mark.parametrize(("height", "width"), [(64, 64), (128, 128), (130, 128), (333, 500), (1001, 140)])
def test_blending_the_tiles_of_a_picture_gives_the_picture(height: int, width: int) -> None:
    picture = np.random.default_rng(0).random((height, width), dtype=np.float32)
    blend = Blend(height, width, SPEC)
    for tile in tiles(height, width, SPEC):
        blend.add(tile, picture[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width])
    assert blend.heatmap == pytest.approx(picture, abs=1e-6)


def test_tiles_that_disagree_leave_no_seam() -> None:
    """Every tile says something else, as a smooth target would make them; the blend never jumps."""
    blend = Blend(400, 400, SPEC)
    for number, tile in enumerate(tiles(400, 400, SPEC)):
        blend.add(tile, np.full((tile.height, tile.width), (number % 3) / 2, np.float32))
    step = 1.0 / SPEC.overlap
    assert np.abs(np.diff(blend.heatmap, axis=0)).max() < 2.5 * step
    assert np.abs(np.diff(blend.heatmap, axis=1)).max() < 2.5 * step


def test_one_tile_is_kept_to_the_bit() -> None:
    picture = np.random.default_rng(0).random((100, 90), dtype=np.float32)
    blend = Blend(100, 90, SPEC)
    (tile,) = tiles(100, 90, SPEC)
    blend.add(tile, np.pad(picture, ((0, 12), (0, 6))))
    assert np.array_equal(blend.heatmap, picture)


def test_padding_mirrors_and_does_not_enlarge() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 33, 3), dtype=np.uint8)
    (tile,) = tiles(20, 33, SPEC)
    out = padded(pixels, tile, 16)
    assert out.shape == (32, 48, 3)
    assert np.array_equal(out[:20, :33], pixels)
    assert np.array_equal(out[20:, :33], pixels[:7:-1])
    assert padded(pixels[:1, :1], tiles(1, 1, SPEC)[0], 16).shape == (16, 16, 3)
