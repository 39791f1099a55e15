"""The backbones of the network, each described by a `Branch`. To add one, see DESIGN.md."""

from __future__ import annotations

from model.branches.branch import Branch
from model.branches.sam import SAM
from model.branches.sd3 import SD3
from model.preset import Preset

BRANCHES: dict[str, Branch] = {branch.name: branch for branch in (SD3(), SAM())}
"""Every known backbone by name. The digest of an adapter checkpoint follows this order: new ones go to the end."""

NO_NOISE = (1, 1, 1)
"""Shape of the noise where no branch needs any."""


def branches_of(preset: Preset, branches: str = "both") -> tuple[Branch, ...]:
    """The branches of a preset (`both`), or the only one that is used.

    Raises:
        ValueError: the preset has no such branch.
    """
    names = preset.backbones if branches == "both" else (branches,)
    if not set(names) <= set(preset.backbones):
        raise ValueError(f"branches is {branches!r}; expected one of both, {', '.join(preset.backbones)}")
    return tuple(BRANCHES[name] for name in names)


def parts_of(preset: Preset, branches: str = "both") -> tuple[str, ...]:
    """The parts of the registered weights that these branches need."""
    return tuple(part for branch in branches_of(preset, branches) for part in branch.parts)


def noise_shape(preset: Preset, height: int, width: int) -> tuple[int, int, int]:
    """Shape C×h×w of the noise for an input of height × width pixels."""
    shapes = (branch.noise_shape(preset, height, width) for branch in branches_of(preset))
    return next((shape for shape in shapes if shape is not None), NO_NOISE)


def from_scratch(preset: Preset) -> bool:
    """Whether a preset is trained without pretrained weights, as `mini` is."""
    return any(branch.from_scratch(preset) for branch in branches_of(preset))
