"""What a preset says: plain numbers, from which `model.clue.build` makes a CLUE of any size.

A preset may come from a person's YAML file or from the description of a model somebody sent: what is wrong is named by
its key before anything is built.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from model.config import Between, ConfigError, Keyed, Place, check, dotted

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler

LARGEST = 1 << 16
"""Of any size, count or index: beyond what any of these networks has, and within what can be counted in seconds."""
MOST_BLOCKS = 1024
"""Of layers: they are built one by one."""

Size = Annotated[int, Between(1, LARGEST)]
SizeOrNone = Annotated[int, Between(0, LARGEST)]
Blocks = Annotated[int, Between(1, MOST_BLOCKS)]
Indexes = tuple[Annotated[int, Between(0, LARGEST)], ...]
Positive = Annotated[float, Between(0, LARGEST, above=True)]
NoiseSchedule = Literal["rf", "ddpm", "none"]
Adapt = Literal["lora", "full", "frozen", "svd"]


@dataclass(frozen=True, slots=True)
class NoiseSpec(Keyed):
    """How the latent is noised (clue-method, equation 2).

    Attributes:
        schedule: `rf` rectified flow, `ddpm` variance preserving (ablation), `none` (ablation).
        levels: noise levels t in [0, 1] *before* the shift; each is one pass of the transformer.
        shift: s of SD3's schedule, t' = s·t / (1 + (s - 1)·t); the paper's best is 3.0.
    """

    schedule: NoiseSchedule = "rf"
    levels: tuple[Annotated[float, Between(0, 1)], ...] = (0.1, 0.3, 0.5)
    shift: Positive = 3.0


@dataclass(frozen=True, slots=True)
class ViewSpec(Keyed):
    """The early forensic view of the pixels; channels 0 leaves it out (as in the paper).

    Attributes:
        channels: width of the view at stride 8.
        frequencies: how many AC frequencies of the block DCT, in zigzag order, are tested for quantization steps.
        steps: the quantization steps that are tested.
        matches: whether the maps of self-similarity (`model.self_match`) are part of the view.
        repeats: whether the last two of them are, which tell a pattern from a copy.
    """

    channels: SizeOrNone = 0
    frequencies: Annotated[int, Between(1, 63)] = 20
    steps: tuple[Size, ...] = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20)
    matches: bool = False
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class VaeSpec(Keyed):
    """diffusers' AutoencoderKL; the network keeps the encoder alone.

    Attributes:
        block_out_channels, layers_per_block, norm_num_groups, mid_block_add_attention: as in AutoencoderKL.
        latent_channels: channels of z0; 16 in SD3.
        pixel_unshuffle: fold f×f pixels into channels before the encoder (1: not at all, as in SD3).
        residual: append the folded high-pass residual to the encoder's input.
        shift_factor, scaling_factor: z0 = (E(x) - shift_factor)·scaling_factor.
    """

    block_out_channels: tuple[Size, ...] = (128, 256, 512, 512)
    layers_per_block: Blocks = 2
    norm_num_groups: Size = 32
    mid_block_add_attention: bool = True
    latent_channels: Size = 16
    pixel_unshuffle: Annotated[int, Between(1, 64)] = 1
    residual: bool = False
    shift_factor: Annotated[float, Between(0, LARGEST)] = 0.0609
    scaling_factor: Positive = 1.5305

    @property
    def stride(self) -> int:
        """Pixels per latent cell."""
        return int(self.pixel_unshuffle * 2 ** (len(self.block_out_channels) - 1))


@dataclass(frozen=True, slots=True)
class TransformerSpec(Keyed):
    """diffusers' SD3Transformer2DModel, and where features are taken.

    Attributes:
        feature_blocks: indexes of the joint blocks after which the image tokens are taken; no later block runs.
        prompt_tokens: length of the empty prompt's embedding.
    """

    num_layers: Blocks = 24
    num_attention_heads: Size = 24
    attention_head_dim: Size = 64
    patch_size: Size = 2
    joint_attention_dim: Size = 4096
    pooled_projection_dim: Size = 2048
    sample_size: Size = 128
    pos_embed_max_size: Size = 192
    dual_attention_layers: Indexes = ()
    qk_norm: Literal["rms_norm"] | None = None
    feature_blocks: Indexes = (11, 17, 23)
    prompt_tokens: Size = 333
    learned_prompt: bool = False

    @property
    def width(self) -> int:
        """Channels of an image token."""
        return self.num_attention_heads * self.attention_head_dim


@dataclass(frozen=True, slots=True)
class SamSpec(Keyed):
    """segment_anything's ImageEncoderViT.

    Attributes:
        img_size, patch_size, embed_dim, depth, num_heads, window_size, global_attn_indexes, out_chans: as there;
            img_size is in cells of the input, which is the image, or the early view at stride 8.
        use_abs_pos: absolute positional embeddings; they tie the encoder to img_size.
        input: `pixels` (normalized with SAM's mean and deviation) or `view` (the early forensic view).
    """

    img_size: Size = 1024
    patch_size: Size = 16
    embed_dim: Size = 1280
    depth: Blocks = 32
    num_heads: Size = 16
    window_size: Size = 14
    global_attn_indexes: Indexes = (7, 15, 23, 31)
    out_chans: Size = 256
    use_abs_pos: bool = True
    input: Literal["pixels", "view"] = "pixels"


@dataclass(frozen=True, slots=True)
class LoraSpec(Keyed):
    """Low-rank adapters (peft). Rank and alpha are not in the paper's text; ours, by measurement."""

    rank: Size = 16
    alpha: Size = 32
    dropout: Annotated[float, Between(0, 1)] = 0.0
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
class SvdSpec(Keyed):
    """Adapters in the residual of a singular value decomposition (`model.branches.svd`), on the layers that LoRA has.

    Attributes:
        rank: of the residual of each layer, which learns: that many of its smallest singular components.
        orthogonality, norm: weights in the loss of the two constraints: components stay orthogonal, and a weight
            keeps its Frobenius norm. 1 and 1 in the paper.
    """

    rank: Size = 1
    orthogonality: Annotated[float, Between(0, LARGEST)] = 1.0
    norm: Annotated[float, Between(0, LARGEST)] = 1.0


@dataclass(frozen=True, slots=True)
class BranchSpec(Keyed):
    """Base class of the sizes of a branch that has no fields of its own in `Preset`."""

    adapt: Adapt = "lora"


class _BySpecs:
    """Sizes of branches, each checked as the class that its branch names."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        from pydantic import PlainValidator

        return PlainValidator(self._read).__get_pydantic_core_schema__(source, handler)

    def _read(self, data: Any) -> Mapping[str, BranchSpec]:
        from model.branches import BRANCHES  # which is made of this module

        others = [name for name in BRANCHES if not hasattr(Preset, f"adapt_{name}")]
        if not isinstance(data, dict) or not set(data) <= set(others):
            raise ValueError(f"a mapping with {', '.join(others) or 'nothing'}")
        return {
            name: check(BRANCHES[name].spec, value, lambda place, name=name: dotted((name, *place)))  # type: ignore[misc]
            for name, value in data.items()
        }


@dataclass(frozen=True, slots=True)
class HeadSpec(Keyed):
    """Feature fusion and localization.

    Attributes:
        channels: width of each projection and of the fused map.
        groups: groups of every GroupNorm.
        stride: pixels per cell of the fused map and of the logits, before bilinear upsampling.
    """

    channels: Annotated[int, Between(2, LARGEST)] = 256
    groups: Size = 32
    stride: Size = 16


@dataclass(frozen=True, slots=True)
class TileSpec(Keyed):
    """How the predictor cuts images.

    Attributes:
        size: side of a tile in pixels, a multiple of `multiple`.
        overlap: overlap of neighbours in pixels, a multiple of `multiple`.
        multiple: both sides of what the network sees are multiples of this; images are padded up to it.
    """

    size: Size = 1024
    overlap: SizeOrNone = 128
    multiple: Size = 16


@dataclass(frozen=True, slots=True)
class LevelSpec(Keyed):
    """How the heatmap of a picture is raised or lowered as a whole (`model.postprocess`), in log-odds.

    A fitted score is of the heatmap from before; without one the score is taken from what comes of it.

    Attributes:
        slope: share of the distance between the picture's strength and `pivot` by which it is moved towards it; 0 moves
            nothing.
        pivot: the strength of a picture that stays as it is: log-odds of the mean of its `cells` strongest cells.
        cells: how many 8×8 cells.
        lowest: most that a stronger picture is lowered by, 0 or less.
        least: strength up to which a weak picture stays as it is; one above is raised by no more than it is stronger.
    """

    slope: Annotated[float, Between(0, 1)] = 0.0
    pivot: Annotated[float, Between(-10, 10)] = 0.0
    cells: Size = 96
    lowest: Annotated[float, Between(-10, 0)] = 0.0
    least: Annotated[float, Between(-10, 10)] = 0.0


@dataclass(frozen=True, slots=True)
class RegionSpec(Keyed):
    """When a marked region is too weak beside the strongest of its picture (`model.postprocess`).

    Attributes:
        weaker: by how much, in log-odds; 0 keeps every region.
        certain: log-odds from which a region stays in any case.
    """

    weaker: Annotated[float, Between(0, LARGEST)] = 0.0
    certain: Positive = 6.0


@dataclass(frozen=True, slots=True)
class EdgeSpec(Keyed):
    """How far the heatmap follows the edges of the picture (`model.postprocess`).

    Attributes:
        radius: of the windows in pixels, rounded up to whole steps of `model.postprocess.STEP`; a pixel depends on
            those up to about twice as far away. 0 leaves the heatmap as it is.
        epsilon: variance of a colour, of 0 to 1, that counts as an edge; smaller ones are smoothed over.
    """

    radius: Annotated[int, Between(0, 64)] = 0
    epsilon: Positive = 1e-4


@dataclass(frozen=True, slots=True)
class Preset(Keyed):
    """One model, described.

    Attributes:
        screens_as_found: whether `level`, `edges` and `regions` are for photographs alone: on screens, drawings and
            pages edges are everywhere, and several changed words are normal.
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
    svd: SvdSpec = SvdSpec()
    head: HeadSpec = HeadSpec()
    tile: TileSpec = TileSpec()
    level: LevelSpec = LevelSpec()
    regions: RegionSpec = RegionSpec()
    edges: EdgeSpec = EdgeSpec()
    screens_as_found: bool = False
    adapt_sd3: Adapt = "lora"
    adapt_sam: Adapt = "lora"
    backbones: tuple[str, ...] = ("sd3", "sam")
    specs: Annotated[Mapping[str, BranchSpec], _BySpecs()] = field(default_factory=dict, hash=False)

    def adapt(self, branch: str) -> Adapt:
        """What of a branch learns."""
        how: Adapt = self.specs[branch].adapt if branch in self.specs else getattr(self, f"adapt_{branch}")
        return how

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `backbones`, `specs` and `svd` only where they are not the usual ones."""
        data = cast(dict[str, Any], _plain(asdict(self)))
        usual = {"backbones": ["sd3", "sam"], "specs": {}, "svd": asdict(SvdSpec())}
        return {key: value for key, value in data.items() if usual.get(key) != value}

    @staticmethod
    def from_dict(data: Any) -> Preset:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: as of `checked`.
        """
        return checked(data)


def checked(data: Any, where: Callable[[Place], str] = lambda place: dotted(("preset", *place))) -> Preset:
    """A preset from JSON or YAML; `where` says in a message where a key stands.

    Raises:
        ConfigError: an unknown key, or a value of another type, outside its range, or that does not fit the others.
    """
    preset = check(Preset, data, where)
    for key, wrong, expected in _misfits(preset):
        if wrong:
            place = tuple(key.split("."))
            value: Any = reduce(getattr, place, cast(Any, preset))
            shown = list(value) if isinstance(value, tuple) else value
            raise ConfigError(where(place), f"found `{shown}`", expected)
    return preset


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _misfits(preset: Preset) -> Iterator[tuple[str, bool, str]]:
    """(key, whether it is wrong, what was expected), in an order in which a later one may rely on the earlier."""
    from model.branches import BRANCHES, branches_of  # which is made of this package

    names, head, tile = preset.backbones, preset.head, preset.tile
    yield "name", not (0 < len(preset.name) <= 100 and preset.name.isprintable()), "1 to 100 printable characters"
    known = bool(names) and set(names) <= set(BRANCHES) and len(set(names)) == len(names)
    yield "backbones", not known, f"names of branches, each once: {', '.join(BRANCHES)}"
    without = [name for name in names if name not in preset.specs and not hasattr(preset, f"adapt_{name}")]
    yield "backbones", bool(without), f"a mapping specs.{next(iter(without), '')} with its sizes"
    branches = branches_of(preset)
    for branch in branches:
        yield from branch.misfits(preset)
    noises = {shape for branch in branches if (shape := branch.noise_shape(preset, tile.multiple, tile.multiple))}
    yield "backbones", len(noises) > 1, "branches that need noise of the same shape"
    yield "view.channels", preset.view.channels % 8 != 0, "a multiple of 8"
    yield "noise.levels", preset.noise.schedule != "none" and not preset.noise.levels, "at least one level"
    yield "lora.dropout", preset.lora.dropout == 1, "a number below 1"
    yield "head.channels", head.channels % head.groups != 0, f"a multiple of groups, {head.groups}"
    cells = math.lcm(head.stride, *(branch.cell(preset) for branch in branches))
    yield "tile.multiple", tile.multiple % cells != 0, f"a multiple of {cells}, the cells of the networks in pixels"
    yield "tile.size", tile.size % tile.multiple != 0, f"a multiple of tile.multiple, {tile.multiple}"
    yield "tile.overlap", tile.overlap % tile.multiple != 0, f"a multiple of tile.multiple, {tile.multiple}"
    yield "tile.overlap", 2 * tile.overlap > tile.size, f"at most half of tile.size, {tile.size}"
    most = min((side for branch in branches if (side := branch.largest(preset)) is not None), default=LARGEST)
    yield "tile.size", tile.size > most, f"at most {most}, which the positional embeddings reach"
