"""What a preset says: plain numbers, from which `model.clue.build` makes a CLUE of any size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal, cast, get_type_hints

from model.presets.check import brief, check, fits, in_words

NoiseSchedule = Literal["rf", "ddpm", "none"]
Adapt = Literal["lora", "full", "frozen"]


@dataclass(frozen=True, slots=True)
class NoiseSpec:
    """How the latent is noised (clue-method, equation 2).

    Attributes:
        schedule: `rf` rectified flow, `ddpm` variance preserving (ablation), `none` (ablation).
        levels: noise levels t in [0, 1] *before* the shift; each is one pass of the transformer.
        shift: s of SD3's schedule, t' = s·t / (1 + (s - 1)·t); the paper's best is 3.0.
    """

    schedule: NoiseSchedule = "rf"
    levels: tuple[float, ...] = (0.1, 0.3, 0.5)
    shift: float = 3.0


@dataclass(frozen=True, slots=True)
class ViewSpec:
    """The early forensic view of the pixels; channels 0 leaves it out (as in the paper).

    Attributes:
        channels: width of the view at stride 8.
        frequencies: how many AC frequencies of the block DCT, in zigzag order, are tested for quantization steps.
        steps: the quantization steps that are tested.
        matches: whether the maps of self-similarity (`model.self_match`) are part of the view.
        repeats: whether the last two of them are, which tell a pattern from a copy.
    """

    channels: int = 0
    frequencies: int = 20
    steps: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20)
    matches: bool = False
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class VaeSpec:
    """diffusers' AutoencoderKL, of which only the encoder is kept.

    Attributes:
        block_out_channels, layers_per_block, norm_num_groups, mid_block_add_attention: as in AutoencoderKL.
        latent_channels: channels of z0; 16 in SD3.
        pixel_unshuffle: fold f×f pixels into channels before the encoder (1: not at all, as in SD3).
        residual: append the folded high-pass residual to the encoder's input.
        shift_factor, scaling_factor: z0 = (E(x) - shift_factor)·scaling_factor.
    """

    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    mid_block_add_attention: bool = True
    latent_channels: int = 16
    pixel_unshuffle: int = 1
    residual: bool = False
    shift_factor: float = 0.0609
    scaling_factor: float = 1.5305

    @property
    def stride(self) -> int:
        """Pixels per latent cell."""
        return int(self.pixel_unshuffle * 2 ** (len(self.block_out_channels) - 1))


@dataclass(frozen=True, slots=True)
class TransformerSpec:
    """diffusers' SD3Transformer2DModel, and where features are taken.

    Attributes:
        feature_blocks: indexes of the joint blocks after which the image tokens are taken; no later block runs.
        prompt_tokens: length of the empty prompt's embedding.
    """

    num_layers: int = 24
    num_attention_heads: int = 24
    attention_head_dim: int = 64
    patch_size: int = 2
    joint_attention_dim: int = 4096
    pooled_projection_dim: int = 2048
    sample_size: int = 128
    pos_embed_max_size: int = 192
    dual_attention_layers: tuple[int, ...] = ()
    qk_norm: str | None = None
    feature_blocks: tuple[int, ...] = (11, 17, 23)
    prompt_tokens: int = 333
    learned_prompt: bool = False

    @property
    def width(self) -> int:
        """Channels of an image token."""
        return self.num_attention_heads * self.attention_head_dim


@dataclass(frozen=True, slots=True)
class SamSpec:
    """segment_anything's ImageEncoderViT.

    Attributes:
        img_size, patch_size, embed_dim, depth, num_heads, window_size, global_attn_indexes, out_chans: as there;
            img_size is in cells of the input, which is the image, or the early view at stride 8.
        use_abs_pos: absolute positional embeddings; they tie the encoder to img_size.
        input: `pixels` (normalized with SAM's mean and deviation) or `view` (the early forensic view).
    """

    img_size: int = 1024
    patch_size: int = 16
    embed_dim: int = 1280
    depth: int = 32
    num_heads: int = 16
    window_size: int = 14
    global_attn_indexes: tuple[int, ...] = (7, 15, 23, 31)
    out_chans: int = 256
    use_abs_pos: bool = True
    input: Literal["pixels", "view"] = "pixels"


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """Low-rank adapters (peft). Rank and alpha are not in the paper's text; ours, by measurement."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    sd3_targets: tuple[str, ...] = (
        "attn.to_q",
        "attn.to_k",
        "attn.to_v",
        "attn.to_out.0",
        "attn.add_q_proj",
        "attn.add_k_proj",
        "attn.add_v_proj",
        "attn.to_add_out",
    )


@dataclass(frozen=True, slots=True)
class BranchSpec:
    """Base class of the sizes of a branch that has no fields of its own in `Preset`."""

    adapt: Adapt = "lora"


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """Feature fusion and localization.

    Attributes:
        channels: width of each projection and of the fused map.
        groups: groups of every GroupNorm.
        stride: pixels per cell of the fused map and of the logits, before bilinear upsampling.
    """

    channels: int = 256
    groups: int = 32
    stride: int = 16


@dataclass(frozen=True, slots=True)
class TileSpec:
    """How the predictor cuts images.

    Attributes:
        size: side of a tile in pixels, a multiple of `multiple`.
        overlap: overlap of neighbours in pixels, a multiple of `multiple`.
        multiple: both sides of what the network sees are multiples of this; images are padded up to it.
    """

    size: int = 1024
    overlap: int = 128
    multiple: int = 16


@dataclass(frozen=True, slots=True)
class RegionSpec:
    """When a marked region is too weak beside the strongest of its picture (`model.weak_regions`).

    Attributes:
        weaker: by how much, in log-odds; 0 keeps every region.
        certain: log-odds from which a region stays in any case.
    """

    weaker: float = 0.0
    certain: float = 6.0


@dataclass(frozen=True, slots=True)
class EdgeSpec:
    """How far the heatmap follows the edges of the picture (`model.edges`).

    Attributes:
        radius: of the windows in pixels, rounded up to whole steps of `model.edges.STEP`; a pixel depends on those
            up to about twice as far away. 0 leaves the heatmap as it is.
        epsilon: variance of a colour, of 0 to 1, that counts as an edge; smaller ones are smoothed over.
    """

    radius: int = 0
    epsilon: float = 1e-4


@dataclass(frozen=True, slots=True)
class Preset:
    """One model, described.

    Attributes:
        screens_as_found: whether `edges` and `regions` are for photographs alone: on screens, drawings and pages edges
            are everywhere, and several changed words are normal.
        backbones: names of the branches (`model.branches`), in the order in which the fusion joins their features.
        specs: sizes of the branches other than SD3 and SAM, by name.
    """

    name: str
    vae: VaeSpec = VaeSpec()
    transformer: TransformerSpec = TransformerSpec()
    sam: SamSpec = SamSpec()
    view: ViewSpec = ViewSpec()
    noise: NoiseSpec = NoiseSpec()
    lora: LoraSpec = LoraSpec()
    head: HeadSpec = HeadSpec()
    tile: TileSpec = TileSpec()
    regions: RegionSpec = RegionSpec()
    edges: EdgeSpec = EdgeSpec()
    screens_as_found: bool = False
    adapt_sd3: Adapt = "lora"
    adapt_sam: Adapt = "lora"
    backbones: tuple[str, ...] = ("sd3", "sam")
    specs: Mapping[str, BranchSpec] = field(default_factory=dict, hash=False)

    def adapt(self, branch: str) -> Adapt:
        """What of a branch learns."""
        how: Adapt = self.specs[branch].adapt if branch in self.specs else getattr(self, f"adapt_{branch}")
        return how

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `backbones` and `specs` only where they are not the usual ones."""
        data = cast(dict[str, Any], _plain(asdict(self)))
        usual = {"backbones": ["sd3", "sam"], "specs": {}}
        return {key: value for key, value in data.items() if usual.get(key) != value}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Preset:
        """The inverse of `to_dict`.

        Raises:
            ValueError: naming an unknown key, or a key whose value is of another type or outside its range.
        """
        preset = cast(Preset, _build(Preset, data, "preset"))
        check(preset)
        return preset


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _build(kind: type, data: Any, where: str) -> Any:
    hints = get_type_hints(kind)
    if not isinstance(data, dict):
        raise ValueError(f"{where} is {brief(data)!r}; expected a mapping with {', '.join(sorted(hints))}")
    unknown = set(data) - {f.name for f in fields(kind)}
    if unknown:
        raise ValueError(f"{where}: unknown key {sorted(map(str, unknown))[0]!r}; known: {', '.join(sorted(hints))}")
    if kind is Preset and "name" not in data:
        raise ValueError(f"{where}.name is missing")
    values = {}
    for name, value in data.items():
        if name == "specs" and kind is Preset:
            value = _specs(value, f"{where}.{name}")
        elif is_dataclass(hints[name]):
            value = _build(cast(type, hints[name]), value, f"{where}.{name}")
        elif not fits(value, hints[name]):
            raise ValueError(f"{where}.{name} is {brief(value)!r}; expected {in_words(hints[name])}")
        values[name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def _specs(data: Any, where: str) -> dict[str, BranchSpec]:
    from model.branches import BRANCHES  # which is made of this module

    others = [name for name in BRANCHES if not hasattr(Preset, f"adapt_{name}")]
    if not isinstance(data, dict) or not set(data) <= set(others):
        raise ValueError(f"{where} is {brief(data)!r}; expected a mapping with {', '.join(others) or 'nothing'}")
    return {name: _build(BRANCHES[name].spec, value, f"{where}.{name}") for name, value in data.items()}
