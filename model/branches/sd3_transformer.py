"""SD3's transformer, MM-DiT, with the names, shapes and arithmetic of diffusers.

Written after diffusers (Apache-2.0). These modules give its bits (`tests/model/branches/test_sd3_transformer.py`);
without gradients `joint_block` computes their output another way, equal to 1e-5. Why it is here: `sd3_vae`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.preset import TransformerSpec

EPS = 1e-6
TIME_CHANNELS = 256
"""Channels of the timestep's sinusoids, before they are embedded."""


class PatchEmbed(nn.Module):
    """Patches of the latent as tokens, with the middle of a grid of sinusoidal positions: B×C×h×w → B×N×width."""

    pos_embed: Tensor

    def __init__(self, spec: TransformerSpec, in_channels: int) -> None:
        super().__init__()
        self.patch_size, self.side = spec.patch_size, spec.pos_embed_max_size
        self.proj = nn.Conv2d(in_channels, spec.width, spec.patch_size, stride=spec.patch_size)
        self.register_buffer("pos_embed", self._positions(spec))

    def _positions(self, spec: TransformerSpec) -> Tensor:
        """1×side²×width. On the meta device nothing is computed: torch would load its compiler to do nothing."""
        if torch.get_default_device().type == "meta":
            return torch.empty(1, self.side**2, spec.width)
        cells = torch.arange(self.side, dtype=torch.float32) / (self.side / (spec.sample_size // spec.patch_size))
        across, down = torch.meshgrid(cells, cells, indexing="xy")
        half = spec.width // 2
        return torch.cat([sinusoids(across, half), sinusoids(down, half)], 1).float()[None]

    def forward(self, latent: Tensor) -> Tensor:
        """latent: B×C×h×w; raises ValueError if there is no position for so many cells."""
        height, width = (side // self.patch_size for side in latent.shape[-2:])
        if max(height, width) > self.side:
            raise ValueError(f"{width}×{height} tokens are more than the {self.side} positions a side of this network")
        top, left = (self.side - height) // 2, (self.side - width) // 2
        tokens = self.proj(latent).flatten(2).transpose(1, 2)
        grid = self.pos_embed.reshape(1, self.side, self.side, -1)[:, top : top + height, left : left + width]
        placed: Tensor = tokens + grid.reshape(1, -1, grid.shape[-1])
        return placed.to(tokens.dtype)


def sinusoids(positions: Tensor, channels: int) -> Tensor:
    """Sines and cosines of positions at falling frequencies: any shape → N×channels, float64."""
    frequencies = torch.arange(channels // 2, dtype=torch.float64)
    frequencies /= channels / 2.0
    angles = torch.outer(positions.reshape(-1), 1.0 / 10000**frequencies)
    return torch.cat([angles.sin(), angles.cos()], 1)


class Timesteps(nn.Module):
    """B → B×`TIME_CHANNELS` float32."""

    def forward(self, timestep: Tensor) -> Tensor:
        """timestep: B, 0 to 1000, fractions too."""
        half = TIME_CHANNELS // 2
        exponents = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=timestep.device) / half
        angles = timestep[:, None].float() * torch.exp(exponents)[None]
        return torch.cat([angles.cos(), angles.sin()], -1)


class TimestepEmbedding(nn.Module):
    """B×in → B×width."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(in_channels, width)
        self.act = nn.SiLU()
        self.linear_2 = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x: B×in."""
        embedded: Tensor = self.linear_2(self.act(self.linear_1(x)))
        return embedded


class TextProjection(nn.Module):
    """B×in → B×width."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(in_channels, width)
        self.act_1 = nn.SiLU()
        self.linear_2 = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x: B×in."""
        embedded: Tensor = self.linear_2(self.act_1(self.linear_1(x)))
        return embedded


class TimeTextEmbedding(nn.Module):
    """What modulates all blocks: timestep B and pooled prompt B×P → B×width."""

    def __init__(self, width: int, pooled: int) -> None:
        super().__init__()
        self.time_proj = Timesteps()
        self.timestep_embedder = TimestepEmbedding(TIME_CHANNELS, width)
        self.text_embedder = TextProjection(pooled, width)

    def forward(self, timestep: Tensor, pooled: Tensor) -> Tensor:
        """timestep: B; pooled: B×P."""
        embedded: Tensor = self.timestep_embedder(self.time_proj(timestep).to(pooled.dtype))
        modulation: Tensor = embedded + self.text_embedder(pooled)
        return modulation


class AdaLayerNormZero(nn.Module):
    """The normalized and modulated tokens, and the five modulations that follow; eight with `dual`.

    `dual` is that of SD3.5: the input of a second attention is among them.
    """

    def __init__(self, width: int, *, dual: bool = False) -> None:
        super().__init__()
        self.dual = dual
        self.silu = nn.SiLU()
        self.linear = nn.Linear(width, (9 if dual else 6) * width)
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=EPS)

    def forward(self, x: Tensor, emb: Tensor) -> tuple[Tensor, ...]:
        """x: B×N×width; emb: B×width → tokens, gate, shift, scale and gate of the MLP; tokens and gate if `dual`."""
        parts = self.linear(self.silu(emb)).chunk(9 if self.dual else 6, dim=1)
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = parts[:6]
        normal = self.norm(x)
        tokens = normal * (1 + scale[:, None]) + shift[:, None]
        if not self.dual:
            return tokens, gate, shift_mlp, scale_mlp, gate_mlp
        shift2, scale2, gate2 = parts[6:]
        return tokens, gate, shift_mlp, scale_mlp, gate_mlp, normal * (1 + scale2[:, None]) + shift2[:, None], gate2


class AdaLayerNormContinuous(nn.Module):
    """The normalized and modulated tokens alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.silu = nn.SiLU()
        self.linear = nn.Linear(width, 2 * width)
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=EPS)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """x: B×N×width; emb: B×width."""
        scale, shift = self.linear(self.silu(emb).to(x.dtype)).chunk(2, dim=1)
        modulated: Tensor = self.norm(x) * (1 + scale)[:, None, :] + shift[:, None, :]
        return modulated


class RMSNorm(nn.Module):
    """Over the last axis; the mean square is float32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.eps = EPS
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x: …×channels."""
        normal = x * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.eps)
        if self.weight.dtype in (torch.float16, torch.bfloat16):
            normal = normal.to(self.weight.dtype)
        return normal * self.weight


class GELU(nn.Module):
    """A linear layer and the approximate GELU."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        """x: B×N×width."""
        return F.gelu(self.proj(x), approximate="tanh")


class FeedForward(nn.Module):
    """B×N×width → B×N×width through four times the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([GELU(width, 4 * width), nn.Dropout(0.0), nn.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        """x: B×N×width."""
        for layer in self.net:
            x = layer(x)
        return x


class Attention(nn.Module):
    """Attention between the image's tokens, and jointly with those of the prompt.

    Args:
        spec: of the transformer.
        joint: whether there are tokens of a prompt.
        context_pre_only: the prompt's tokens are attended to and go no further: the last block.
    """

    def __init__(self, spec: TransformerSpec, *, joint: bool, context_pre_only: bool = False) -> None:
        super().__init__()
        width, normed = spec.width, spec.qk_norm is not None
        self.heads, self.context_pre_only = spec.num_attention_heads, context_pre_only
        self.norm_q = RMSNorm(spec.attention_head_dim) if normed else None
        self.norm_k = RMSNorm(spec.attention_head_dim) if normed else None
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.add_k_proj = nn.Linear(width, width) if joint else None
        self.add_v_proj = nn.Linear(width, width) if joint else None
        self.add_q_proj = nn.Linear(width, width) if joint else None
        self.to_out = nn.ModuleList([nn.Linear(width, width), nn.Dropout(0.0)])
        self.to_add_out = nn.Linear(width, width) if joint and not context_pre_only else None
        self.norm_added_q = RMSNorm(spec.attention_head_dim) if normed and joint else None
        self.norm_added_k = RMSNorm(spec.attention_head_dim) if normed and joint else None

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """x: B×N×width, the image's; context: B×M×width, the prompt's; `None` as the second without a context."""
        q = self._heads(self.to_q, x, self.norm_q)
        k = self._heads(self.to_k, x, self.norm_k)
        v = self._heads(self.to_v, x)
        if context is not None:
            q = torch.cat([q, self._heads(self.add_q_proj, context, self.norm_added_q)], 2)
            k = torch.cat([k, self._heads(self.add_k_proj, context, self.norm_added_k)], 2)
            v = torch.cat([v, self._heads(self.add_v_proj, context)], 2)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(len(x), -1, x.shape[-1]).to(q.dtype)
        image: Tensor = self.to_out[0](attended[:, : x.shape[1]])
        if context is None:
            return image, None
        prompt = attended[:, x.shape[1] :]
        return image, prompt if self.to_add_out is None else self.to_add_out(prompt)

    def _heads(self, projection: nn.Module | None, tokens: Tensor, norm: nn.Module | None = None) -> Tensor:
        """B×heads×N×d."""
        assert projection is not None
        projected: Tensor = projection(tokens)
        split = projected.view(len(tokens), -1, self.heads, projected.shape[-1] // self.heads).transpose(1, 2)
        return split if norm is None else norm(split)


class JointTransformerBlock(nn.Module):
    """One block of MM-DiT: tokens of the image and of the prompt, with weights of their own and one attention."""

    def __init__(self, spec: TransformerSpec, index: int) -> None:
        super().__init__()
        width = spec.width
        self.use_dual_attention = index in spec.dual_attention_layers
        self.context_pre_only = index == spec.num_layers - 1
        self.norm1 = AdaLayerNormZero(width, dual=self.use_dual_attention)
        self.norm1_context = AdaLayerNormContinuous(width) if self.context_pre_only else AdaLayerNormZero(width)
        self.attn = Attention(spec, joint=True, context_pre_only=self.context_pre_only)
        self.attn2 = Attention(spec, joint=False) if self.use_dual_attention else None
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=EPS)
        self.ff = FeedForward(width)
        last = self.context_pre_only
        self.norm2_context = None if last else nn.LayerNorm(width, elementwise_affine=False, eps=EPS)
        self.ff_context = None if last else FeedForward(width)

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor, temb: Tensor
    ) -> tuple[Tensor | None, Tensor]:
        """The prompt's tokens, None after the last block, and the image's.

        Args:
            hidden_states: B×N×width, the image's tokens.
            encoder_hidden_states: B×M×width, the prompt's.
            temb: B×width.
        """
        x, context = hidden_states, encoder_hidden_states
        normal, gate, shift_mlp, scale_mlp, gate_mlp, *dual = self.norm1(x, temb)
        if self.context_pre_only:
            attended, _ = self.attn(normal, self.norm1_context(context, temb))
        else:
            normal_context, c_gate, c_shift_mlp, c_scale_mlp, c_gate_mlp = self.norm1_context(context, temb)
            attended, attended_context = self.attn(normal, normal_context)
        x = x + gate.unsqueeze(1) * attended
        if self.attn2 is not None:
            x = x + dual[1].unsqueeze(1) * self.attn2(dual[0])[0]
        normal = self.norm2(x) * (1 + scale_mlp[:, None]) + shift_mlp[:, None]
        x = x + gate_mlp.unsqueeze(1) * self.ff(normal)
        if self.norm2_context is None or self.ff_context is None:
            return None, x
        context = context + c_gate.unsqueeze(1) * attended_context
        normal = self.norm2_context(context) * (1 + c_scale_mlp[:, None]) + c_shift_mlp[:, None]
        return context + c_gate_mlp.unsqueeze(1) * self.ff_context(normal), x


class SD3Transformer(nn.Module):
    """MM-DiT: noisy latent, timestep and prompt → the velocity noise - z0.

    Args:
        spec: of the sizes.
        latent_channels: of the latent.
        block: the class of the blocks.
    """

    def __init__(
        self, spec: TransformerSpec, latent_channels: int, block: type[JointTransformerBlock] = JointTransformerBlock
    ) -> None:
        super().__init__()
        width = spec.width
        self.patch_size = spec.patch_size
        self.pos_embed = PatchEmbed(spec, latent_channels)
        self.time_text_embed = TimeTextEmbedding(width, spec.pooled_projection_dim)
        self.context_embedder = nn.Linear(spec.joint_attention_dim, width)
        self.transformer_blocks = nn.ModuleList(block(spec, index) for index in range(spec.num_layers))
        self.norm_out = AdaLayerNormContinuous(width)
        self.proj_out = nn.Linear(width, spec.patch_size**2 * latent_channels)

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor, pooled_projections: Tensor, timestep: Tensor
    ) -> Tensor:
        """The velocity, B×C×h×w.

        Args:
            hidden_states: the noisy latent, B×C×h×w.
            encoder_hidden_states, pooled_projections: the prompt's embeddings, B×M×D and B×P.
            timestep: B, 0 to 1000.
        """
        height, width = hidden_states.shape[-2:]
        x = self.pos_embed(hidden_states).contiguous()
        temb = self.time_text_embed(timestep, pooled_projections)
        context = self.context_embedder(encoder_hidden_states)
        for block in self.transformer_blocks:
            context, x = block(hidden_states=x, encoder_hidden_states=context, temb=temb)
        patches: Tensor = self.proj_out(self.norm_out(x, temb))
        side = self.patch_size
        cells = patches.view(len(patches), height // side, width // side, side, side, -1)
        velocity: Tensor = cells.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
        return velocity
