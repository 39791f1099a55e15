"""A block of MM-DiT as it runs in inference, its modulation computed once.

The timesteps of the noise levels and the prompt are the same for all tiles, and so are the vectors that scale, shift
and gate in each block: constants of the network. They are computed when first needed, and again when weights change.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.branches.inference import joined, lay_together, linear, plain, product, tensors_of
from model.branches.sd3_transformer import Attention, JointTransformerBlock

Projection = tuple[Tensor, Tensor]
"""Weight and bias of q, k and v in one."""


class Stream(NamedTuple):
    """Constants of the tokens of the image, or of the prompt.

    Attributes:
        modulation: rows×1×width each; a row serves as many samples as there are for each row. Shift, 1 + scale and gate
            of the attention; shift, 1 + scale and gate of the feed-forward; those of the second attention.
        qkv: None where adapters are in the way.
        qkv2: of the second attention.
    """

    modulation: tuple[Tensor, ...]
    qkv: Projection | None
    qkv2: Projection | None = None


class Constants(NamedTuple):
    """Constants of a block."""

    image: Stream
    prompt: Stream


IMAGE, PROMPT = ("to_q", "to_k", "to_v"), ("add_q_proj", "add_k_proj", "add_v_proj")


class JointBlock(JointTransformerBlock):
    """The block with a second way to compute its output, from constants; names and weights are the same."""

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor | None,
        constants: Constants | None = None,
    ) -> tuple[Tensor | None, Tensor]:
        """Tokens of the prompt and of the image after the block: B×T×width (None after the last), B×N×width.

        Args:
            hidden_states: tokens of the image, B×N×width.
            encoder_hidden_states: tokens of the prompt, B×T×width.
            temb: B×width, where there are no constants.
            constants: of `block_constants`.
        """
        if constants is None:
            assert temb is not None
            return super().forward(hidden_states, encoder_hidden_states, temb)
        image, prompt = hidden_states, encoder_hidden_states
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate, *second = constants.image.modulation
        normed = _normed(self.norm1.norm, image)
        of_prompt = _normed(self.norm1_context.norm, prompt)
        of_prompt = _modulated(of_prompt, *constants.prompt.modulation[:2])
        count, attn = image.shape[1], self.attn
        mixed = _attended(
            torch.cat(
                [
                    _qkv(attn, torch.addcmul(shift, normed, scale), constants.image.qkv, IMAGE, "norm_q", "norm_k"),
                    _qkv(attn, of_prompt, constants.prompt.qkv, PROMPT, "norm_added_q", "norm_added_k"),
                ],
                1,
            )
        )
        image = _added(image, gate, linear(attn.to_out[0], mixed[:, :count]))
        if second:
            attn2 = cast(Attention, self.attn2)
            qkv = _qkv(
                attn2, torch.addcmul(second[0], normed, second[1]), constants.image.qkv2, IMAGE, "norm_q", "norm_k"
            )
            image = _added(image, second[2], linear(attn2.to_out[0], _attended(qkv)))
        image = _fed(self.norm2, self.ff, image, mlp_shift, mlp_scale, mlp_gate)
        if self.context_pre_only:
            return None, image
        _, _, gate, mlp_shift, mlp_scale, mlp_gate = constants.prompt.modulation
        prompt = _added(prompt, gate, linear(cast(nn.Module, attn.to_add_out), mixed[:, count:]))
        return _fed(
            cast(nn.LayerNorm, self.norm2_context), self.ff_context, prompt, mlp_shift, mlp_scale, mlp_gate
        ), image


def _normed(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=norm.eps)


def _fed(norm: nn.LayerNorm, ff: Any, x: Tensor, shift: Tensor, scale: Tensor, gate: Tensor) -> Tensor:
    first, last = ff.net[0], ff.net[2]
    inner = linear(first.proj, _modulated(_normed(norm, x), shift, scale), "tanh")
    return _added(x, gate, linear(last, inner))


def _modulated(normed: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """`normed` may be overwritten."""
    return torch.addcmul(shift, normed, scale, out=None if torch.compiler.is_compiling() else normed)


def _added(x: Tensor, gate: Tensor, y: Tensor) -> Tensor:
    """`y` may be overwritten, `x` not: a tapped block's output is somebody else's."""
    return torch.addcmul(x, gate, y, out=None if torch.compiler.is_compiling() else y)


def _qkv(
    attn: Any, x: Tensor, fused: Projection | None, layers: tuple[str, str, str], norm_q: str, norm_k: str
) -> Tensor:
    """B×N×3×heads×d."""
    if fused is not None:
        qkv = product(attn, [getattr(attn, layer).weight for layer in layers], x, *fused, key=layers[0])
    else:
        qkv = torch.cat([getattr(attn, layer)(x) for layer in layers], -1)
    qkv = qkv.view(*qkv.shape[:-1], 3, attn.heads, -1)
    norms = getattr(attn, norm_q), getattr(attn, norm_k)
    if norms == (None, None):
        return qkv
    q, k, v = qkv.unbind(2)
    q, k = (
        t if norm is None else F.rms_norm(t, t.shape[-1:], norm.weight, norm.eps)
        for norm, t in zip(norms, (q, k), strict=True)
    )
    return torch.stack([q, k, v], 2)


def _attended(qkv: Tensor) -> Tensor:
    """B×N×3×heads×d → B×N×width; q, k and v are views, whose strides the fused kernels take."""
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    mixed: Tensor = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    return mixed


def sources(block: JointBlock) -> list[Tensor]:
    """The tensors that the constants of a block depend on, beside the embedding of time and prompt."""
    found = tensors_of(block.norm1, block.norm1_context)
    for parts in _projections(block):
        if plain(*parts):
            found += tensors_of(*parts)
    return found


def _projections(block: JointBlock) -> list[list[nn.Linear]]:
    """q, k and v of each attention and stream."""
    attentions: list[tuple[Any, tuple[str, str, str]]] = [
        (block.attn, IMAGE),
        (block.attn, PROMPT),
        *([(block.attn2, IMAGE)] if block.use_dual_attention else []),
    ]
    return [[getattr(attn, layer) for layer in layers] for attn, layers in attentions]


def block_constants(block: Any, temb: Tensor) -> Constants:
    """The constants of a block.

    Args:
        block: of the network.
        temb: embedding of timestep and pooled prompt, rows×width.
    """
    active = F.silu(temb)
    image = block.norm1.linear(active)[:, None].chunk(9 if block.use_dual_attention else 6, -1)
    of_image = [1 + one if index in (1, 4, 7) else one for index, one in enumerate(image)]
    if block.context_pre_only:  # AdaLayerNormContinuous has its scale first
        scale, shift = block.norm1_context.linear(active)[:, None].chunk(2, -1)
        of_prompt = [shift, 1 + scale]
    else:
        prompt = block.norm1_context.linear(active)[:, None].chunk(6, -1)
        of_prompt = [1 + one if index in (1, 4) else one for index, one in enumerate(prompt)]
    return Constants(
        Stream(
            tuple(one.contiguous() for one in of_image),
            _projection(block.attn, IMAGE),
            _projection(block.attn2, IMAGE) if block.use_dual_attention else None,
        ),
        Stream(tuple(one.contiguous() for one in of_prompt), _projection(block.attn, PROMPT)),
    )


def _projection(attn: Attention, layers: tuple[str, str, str]) -> Projection | None:
    parts = [getattr(attn, layer) for layer in layers]
    if not plain(*parts):
        return None
    return joined([part.weight for part in parts]), joined([part.bias for part in parts])


def arrange(block: JointBlock) -> None:
    """Lay the weights of q, k and v together, in place, so that one product needs no copy of them."""
    for parts in _projections(block):
        if plain(*parts):
            lay_together(parts)
