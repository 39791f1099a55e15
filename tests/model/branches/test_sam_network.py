"""The SAM branch sees what SAM's own preprocessing gives its encoder."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.modeling.image_encoder import Attention, ImageEncoderViT
from torch import nn

from model.branches import sam_block
from model.branches.sam_block import SamAttention, SamBlock, distances
from model.branches.sam_network import SamNetwork, encode, replace_attention
from model.clue import build
from tests.base_layouts import SMALL
from tests.tiny_model import TINY


def sams_own(branch: SamNetwork) -> Sam:
    """The whole model as build_sam.py puts it together, around the branch's encoder."""
    prompts = PromptEncoder(embed_dim=16, image_embedding_size=(8, 8), input_image_size=(128, 128), mask_in_chans=4)
    transformer = TwoWayTransformer(depth=1, embedding_dim=16, mlp_dim=16, num_heads=2)
    decoder = MaskDecoder(transformer_dim=16, transformer=transformer)
    return Sam(branch.encoder, prompts, decoder)


@torch.inference_mode()
def test_the_pixels_are_normalized_as_in_segment_anything() -> None:
    torch.manual_seed(0)
    branch = SamNetwork(SMALL.sam).eval()
    x = torch.rand(1, 3, 128, 128)
    seen: list[torch.Tensor] = []
    branch.encoder.patch_embed.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    branch(x)
    torch.testing.assert_close(seen[0], sams_own(branch).preprocess(x[0] * 255)[None], atol=1e-5, rtol=1e-5)


def test_a_picture_beyond_its_positions_is_refused() -> None:
    with pytest.raises(ValueError, match="160×128 is larger than this encoder's 128²"):
        SamNetwork(SMALL.sam)(torch.rand(1, 3, 128, 160))


TOLERANCE = {"atol": 1e-3, "rtol": 1e-3}


def stock_attention(size: tuple[int, int], heads: int = 4, width: int = 32) -> Attention:
    torch.manual_seed(0)
    attention = Attention(width, heads, use_rel_pos=True, input_size=size)
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.5)
    return attention.eval()


def stock_encoder() -> ImageEncoderViT:
    torch.manual_seed(0)
    encoder = ImageEncoderViT(
        img_size=192,
        embed_dim=32,
        depth=3,
        num_heads=2,
        out_chans=8,
        use_rel_pos=True,
        window_size=5,
        global_attn_indexes=(1,),
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.2)
    return encoder.eval()


@pytest.mark.parametrize("limit", [0, 10**6], ids=["widened", "written out"])
@pytest.mark.parametrize("size", [(5, 5), (7, 12), (3, 2)])
def test_it_is_segment_anythings_attention(monkeypatch: pytest.MonkeyPatch, limit: int, size: tuple[int, int]) -> None:
    monkeypatch.setattr(sam_block, "WRITTEN_OUT", limit)
    stock = stock_attention(size)
    x = torch.randn(2, *size, 32)
    with torch.inference_mode():
        expected, ours = stock(x), SamAttention(stock)(x)
    assert expected.std() > 0.1
    torch.testing.assert_close(ours, expected, **TOLERANCE)


@pytest.mark.parametrize("limit", [0, 10**6], ids=["widened", "written out"])
def test_it_has_the_same_gradients(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(sam_block, "WRITTEN_OUT", limit)
    stock, x = stock_attention((6, 5)), torch.randn(1, 6, 5, 32)
    gradients = []
    for attention in (stock, SamAttention(stock)):
        attention.zero_grad()
        attention(x).square().mean().backward()
        gradients.append([p.grad.clone() for _, p in sorted(attention.named_parameters()) if p.grad is not None])
    assert len(gradients[0]) == 6
    for theirs, ours in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, **TOLERANCE)


def test_at_full_size_the_encoder_is_segment_anythings() -> None:
    encoder = stock_encoder()
    names = list(encoder.state_dict())
    x = torch.randn(1, 3, 192, 192)
    with torch.inference_mode():
        expected = encoder(x)
        replace_attention(encoder)
        for block in encoder.blocks:
            block.__class__ = SamBlock
        torch.testing.assert_close(encode(encoder, x), expected, **TOLERANCE)
    assert sorted(encoder.state_dict()) == sorted(names)


def test_bfloat16_stays_near() -> None:
    """The stated tolerance: 2 % of the features' spread, on average."""
    encoder = stock_encoder()
    x = torch.randn(1, 3, 192, 192)
    with torch.inference_mode():
        expected = encoder(x)
        replace_attention(encoder)
        for block in encoder.blocks:
            block.__class__ = SamBlock
        ours = encode(encoder.bfloat16(), x.bfloat16()).float()
    assert (ours - expected).abs().mean() < 0.05 * expected.std()


@pytest.mark.parametrize("length", [1, 3, 8])
def test_distances_of_fewer_cells_are_those_of_many(length: int) -> None:
    table = torch.randn(2 * 8 - 1, 4)
    whole = distances(table, 8)
    assert torch.equal(distances(table, length), whole[:length, :length])
    assert torch.equal(whole[5, 2], table[5 - 2 + 7])


def test_distances_of_more_cells_are_interpolated_as_in_segment_anything() -> None:
    from segment_anything.modeling.image_encoder import get_rel_pos

    table = torch.randn(2 * 4 - 1, 3)
    torch.testing.assert_close(distances(table, 6), get_rel_pos(6, 6, table))


def test_a_small_picture_costs_its_own_size() -> None:
    """Multiplications, counted: a quarter of the area costs at most a quarter, padding of windows aside."""
    from torch.utils.flop_counter import FlopCounterMode

    branch = build(SMALL, "meta").sam
    assert branch is not None
    counts = []
    for side in (128, 64):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            assert branch(torch.zeros(1, 3, side, side, device="meta")).shape[-1] == side // 16
        counts.append(counter.get_total_flops())
    assert counts[1] < 0.35 * counts[0]


def test_the_early_views_windows_stay_as_they_are() -> None:
    for preset, kind in ((TINY, Attention), (SMALL, SamAttention)):
        branch = build(preset, "meta").sam
        assert branch is not None
        assert all(type(block.attn) is kind for block in branch.encoder.blocks)
