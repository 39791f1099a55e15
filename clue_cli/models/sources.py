"""Where base weights come from, and what their licences allow. Nothing here is fetched without being asked for."""

from __future__ import annotations

from dataclasses import dataclass

from model.presets import Preset
from model.presets.sd3_medium import VIT_B, VIT_H, VIT_L
from model.presets.spec import SamSpec, TransformerSpec

REGISTER = "Put the files back, or register where they are now: clue models add {} --sd3 DIR --sam FILE"
"""Advice where registered weights of a base model are missing or changed."""


@dataclass(frozen=True, slots=True)
class Licence:
    """A licence: its name, where it stands, and what it allows in two sentences at most."""

    name: str
    url: str
    allows: str


STABILITY = Licence(
    "Stability AI Community License",
    "https://stability.ai/community-license-agreement",
    "It allows research and other non-commercial use, and commercial use by those whose annual revenue is below one "
    "million US dollars; others need an enterprise licence from Stability AI. Whoever hands on the weights, or what "
    "was made from them, hands on this licence and its notice, shows “Powered by Stability AI”, and keeps to Stability "
    "AI's acceptable use policy.",
)
APACHE = Licence(
    "Apache-2.0",
    "https://www.apache.org/licenses/LICENSE-2.0",
    "It allows any use, with the licence and its notices kept.",
)

REPOSITORIES: tuple[tuple[TransformerSpec, str], ...] = (
    (TransformerSpec(), "stabilityai/stable-diffusion-3-medium-diffusers"),
    (
        TransformerSpec(pos_embed_max_size=384, dual_attention_layers=tuple(range(13)), qk_norm="rms_norm"),
        "stabilityai/stable-diffusion-3.5-medium",
    ),
)
"""SD3 on the Hugging Face Hub; both repositories are gated."""


@dataclass(frozen=True, slots=True)
class SamFile:
    """A checkpoint of SAM as its authors publish it: the encoder in it, its address, its SHA-256 in hex."""

    encoder: SamSpec
    url: str
    sha256: str


SAM_FILES = (
    SamFile(
        VIT_H,
        "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_h_4b8939.pth",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
    SamFile(
        VIT_L,
        "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_l_0b3195.pth",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    SamFile(
        VIT_B,
        "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
)
"""SAM's checkpoints, as its authors' README names them; digests as micro-sam and SlicerSegmentWithSAM check them."""


def repository(preset: Preset) -> str | None:
    """The repository whose transformer has the preset's sizes."""
    return next((name for spec, name in REPOSITORIES if spec == preset.transformer), None)


def sam_file(preset: Preset) -> SamFile | None:
    """The checkpoint whose encoder has the preset's sizes."""
    return next((file for file in SAM_FILES if file.encoder == preset.sam), None)
