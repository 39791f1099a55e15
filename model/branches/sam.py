"""Segment Anything's image encoder: its sizes, and where it is published."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from model.branches.branch import Branch, Misfit, WebFile
from model.preset import Preset, SamSpec

if TYPE_CHECKING:
    from model.branches.sam_network import SamNetwork

VIEW_STRIDE = 8
"""Pixels per cell of the early forensic view."""

VIT_H = SamSpec()
VIT_L = SamSpec(embed_dim=1024, depth=24, num_heads=16, global_attn_indexes=(5, 11, 17, 23))
VIT_B = SamSpec(embed_dim=768, depth=12, num_heads=12, global_attn_indexes=(2, 5, 8, 11))
"""The sizes of segment_anything's build_sam.py."""

_URL = "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_{}.pth"
PUBLISHED: tuple[tuple[SamSpec, WebFile], ...] = tuple(
    (spec, WebFile(_URL.format(name), digest))
    for spec, name, digest in (
        (VIT_H, "h_4b8939", "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e"),
        (VIT_L, "l_0b3195", "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"),
        (VIT_B, "b_01ec64", "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"),
    )
)
"""SAM's checkpoints, as its authors' README names them; digests as micro-sam and SlicerSegmentWithSAM check them."""


class SAM(Branch):
    """The spatial-semantic branch, on the pixels or on the early forensic view."""

    name = "sam"
    title = "SAM"
    parts = ("sam",)

    def build(self, preset: Preset) -> SamNetwork:
        """segment_anything's image encoder."""
        from model.branches.sam_network import SamNetwork

        return SamNetwork(preset.sam, preset.view.channels if preset.sam.input == "view" else 3)

    def cell(self, preset: Preset) -> int:
        """A patch, or a cell of the early view."""
        return VIEW_STRIDE if preset.sam.input == "view" else preset.sam.patch_size

    def largest(self, preset: Preset) -> int | None:
        """As far as absolute positions reach."""
        if not preset.sam.use_abs_pos:
            return None
        return preset.sam.img_size * (VIEW_STRIDE if preset.sam.input == "view" else 1)

    def lora_targets(self, preset: Preset) -> tuple[str, ...]:
        """q, k and v of every attention block; `SamNetwork.add_adapters` makes them layers of their own."""
        return ("qkv.q", "qkv.k", "qkv.v")

    def from_scratch(self, preset: Preset) -> bool:
        """No published encoder sees the early view."""
        return preset.sam.input == "view"

    def misfits(self, preset: Preset) -> Iterator[Misfit]:
        """Checks of `sam`."""
        sam, last = preset.sam, preset.sam.depth - 1
        yield "sam.num_heads", sam.embed_dim % sam.num_heads != 0, f"a divisor of embed_dim, {sam.embed_dim}"
        yield "sam.global_attn_indexes", any(i > last for i in sam.global_attn_indexes), f"blocks from 0 to {last}"
        yield "sam.patch_size", sam.img_size % sam.patch_size != 0, f"a divisor of img_size, {sam.img_size}"
        yield "svd.rank", preset.adapt("sam") == "svd" and preset.svd.rank >= sam.embed_dim, "below sam.embed_dim"
        yield "view.channels", sam.input == "view" and not preset.view.channels, "above 0, as sam.input is view"

    def sizes(self, preset: Preset) -> dict[str, dict[str, Any]]:
        """All of `sam`."""
        return {"sam": preset.to_dict()["sam"]}

    def source(self, preset: Preset) -> WebFile | None:
        """The checkpoint whose encoder has these sizes."""
        return next((file for spec, file in PUBLISHED if spec == preset.sam), None)
