"""Linear layers and convolutions in 8-bit integers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from model import int8
from model.branches.inference import linear
from model.clue import CLUE, build
from model.device import DeviceError, resolve
from model.float8 import weights_format
from model.int8 import INT8, ROWS, Int8Conv2d, packed_linear, product, rounded, rounded_weight, use_int8
from tests.base_layouts import SMALL

pytestmark = pytest.mark.skipif(not int8.works(), reason="this processor or torch does not have the products")


def as_float(x: Tensor) -> Tensor:
    """What is multiplied in the place of x."""
    values, scale, zero = rounded(x.contiguous())
    return (values.double() - zero) * scale


@pytest.mark.parametrize("low", [-3.0, 0.5, -1e-3])
@pytest.mark.parametrize("shape", [(1, 7, 5), (3, 200, 512)])
def test_what_comes_in_is_rounded_to_the_nearest_of_its_range(low: float, shape: tuple[int, ...]) -> None:
    x = torch.rand(shape) * 4 + low
    values, scale, zero = rounded(x)
    assert values.dtype == torch.uint8
    assert scale == pytest.approx((max(0, x.max().item()) - min(0, x.min().item())) / 254)
    assert (as_float(x) - x).abs().max() <= scale / 2 * 1.001
    assert 0 <= zero <= 254


def test_the_lowest_number_stays_the_lowest() -> None:
    """Also where zero lies half a step from a whole number: what float32 loses does not carry it past the end."""
    steps = torch.arange(250, dtype=torch.float64) + 0.5
    for high in torch.linspace(0.5, 5.5, 20).tolist():
        for low in (-steps * high / (254 - steps)).tolist():
            x = torch.tensor([low, high, 0.0])
            _, scale, zero = rounded(x)
            assert 0 <= zero <= 254
            assert (as_float(x) - x).abs().max() <= scale * 0.51


def test_asking_whether_it_works_draws_no_random_numbers() -> None:
    state = torch.get_rng_state()
    assert int8.works.__wrapped__()
    assert torch.equal(torch.get_rng_state(), state)


def test_zeros_stay_zeros() -> None:
    assert not as_float(torch.zeros(2, 16)).any()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_does_not_become_a_number(bad: float) -> None:
    x = torch.ones(1, 64, 64)
    x[0, 1, 2] = bad
    assert not product(x, packed_linear(torch.ones(64, 64)), None).isfinite().all()


@pytest.mark.parametrize("gelu", [None, "none", "tanh"])
def test_a_product_is_that_of_the_rounded_numbers(gelu: str | None) -> None:
    layer, x = nn.Linear(160, 96), torch.randn(2, 70, 160)
    weight = rounded_weight(layer.weight)
    kept = weight.values.double() * weight.scale[:, None]
    expected = torch.stack([as_float(sample) for sample in x]) @ kept.T + layer.bias
    if gelu:
        expected = nn.functional.gelu(expected, approximate=gelu)
    found = product(x, packed_linear(layer.weight), layer.bias.detach(), gelu)
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)
    assert found.dtype == torch.float32


@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_is_that_of_the_rounded_numbers(bias: bool) -> None:
    layer = nn.Conv2d(48, 40, 3, padding=1, bias=bias).requires_grad_(False)
    x = torch.rand(2, 48, 9, 11) - 0.3
    weight = rounded_weight(layer.weight)
    kept = weight.values.double() * weight.scale.view(-1, 1, 1, 1)
    expected = nn.functional.conv2d(
        torch.stack([as_float(sample) for sample in x]),
        kept,
        None if layer.bias is None else layer.bias.double(),
        padding=1,
    )
    int8._with_integers(layer)
    torch.testing.assert_close(layer(x).double(), expected, atol=1e-4, rtol=1e-4)


def test_bytes_of_pixels_are_not_rounded_but_their_weights() -> None:
    """But for half a step beyond the edges, which reaches the cells there."""
    layer = nn.Conv2d(48, 40, 3, padding=1).requires_grad_(False)
    x = torch.randint(0, 256, (1, 48, 9, 11)) / 255 * 2 - 1
    weight = rounded_weight(layer.weight)
    kept = weight.values.double() * weight.scale.view(-1, 1, 1, 1)
    assert layer.bias is not None
    expected = nn.functional.conv2d(x.double(), kept, layer.bias.double(), padding=1)
    int8._with_integers(layer, of_pixels=True)
    found = layer(x).double()
    torch.testing.assert_close(found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-5, rtol=1e-5)
    assert (found - expected).abs().max() <= kept.abs().flatten(1).sum(1).max() / 255


def test_the_levels_of_a_tile_have_a_range_together() -> None:
    layer, x = packed_linear(torch.randn(96, 160)), torch.randn(2, 3, 70, 160)  # two levels of three tiles
    x[:, 1] *= 100
    together = product(x.flatten(0, 1), layer, None, levels=2).view(2, 3, 70, 96)
    for tile in range(3):
        alone = product(x[:, tile].contiguous(), layer, None, levels=2)
        assert torch.equal(together[:, tile], alone)
        assert torch.equal(alone.flatten(0, 1), product(x[:, tile].flatten(0, 1)[None], layer, None)[0])


def test_few_rows_are_multiplied_in_float32() -> None:
    layer = nn.Linear(32, 32).eval()
    layer.__dict__[INT8] = True
    few, many = torch.randn(2, ROWS - 1, 32), torch.randn(2, ROWS, 32)
    with torch.no_grad():
        torch.testing.assert_close(linear(layer, few), nn.functional.linear(few, layer.weight, layer.bias))
        assert (linear(layer, many) - nn.functional.linear(many, layer.weight, layer.bias)).abs().max() > 1e-4


@pytest.fixture
def small() -> CLUE:
    torch.manual_seed(0)
    return build(SMALL).eval().requires_grad_(False)


def test_the_network_computes_nearly_the_same(small: CLUE) -> None:
    before = copy.deepcopy(small)
    count = use_int8(small)
    assert len([module for module in small.modules() if isinstance(module, Int8Conv2d)]) == count > 0
    assert small.state_dict().keys() == before.state_dict().keys()
    x, noise = torch.rand(1, 3, 128, 128), torch.randn(1, *small.latent_shape(128, 128))
    with torch.inference_mode():
        difference = (torch.sigmoid(small(x, noise)) - torch.sigmoid(before(x, noise))).abs().max()
    assert 0 < difference < 0.1


def test_nothing_depends_on_the_batch_the_layout_or_the_cores() -> None:
    torch.manual_seed(0)
    layer, conv = packed_linear(torch.randn(96, 160)), nn.Conv2d(48, 48, 3, padding=1).requires_grad_(False)
    int8._with_integers(conv)
    tokens, maps = torch.randn(3, 211, 160), torch.randn(3, 48, 17, 23)
    tokens[1] *= 100  # a sample with another range
    maps[1] *= 100
    threads = torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            for index in range(3):
                alone = product(tokens[index : index + 1], layer, None)[0]
                assert torch.equal(product(tokens, layer, None)[index], alone)
                assert torch.equal(product(tokens.mT.contiguous().mT, layer, None)[index], alone)
                lone = conv(maps[index : index + 1])[0]
                assert torch.equal(conv(maps)[index], lone)
                assert torch.equal(conv(maps.to(memory_format=torch.channels_last))[index], lone)
    finally:
        torch.set_num_threads(threads)


def test_what_is_not_rounded_is_held_in_float32() -> None:
    assert weights_format(torch.int8) is torch.float32


def test_it_is_for_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve("cpu", "int8") == ("cpu", torch.int8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(DeviceError, match="int8 is for the CPU, not for cuda:0"):
        resolve("cuda", "int8")
    monkeypatch.setattr(int8, "works", lambda: False)
    with pytest.raises(DeviceError, match="int8 is not computed exactly by this processor and torch"):
        resolve("cpu", "int8")
