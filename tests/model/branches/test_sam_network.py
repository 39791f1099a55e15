"""The SAM branch sees what SAM's own preprocessing gives its encoder."""

from __future__ import annotations

import pytest
import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from model.branches.sam_network import SamNetwork
from tests.base_layouts import SMALL


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
