"""Kind `vision`: a vision transformer with adapters and a linear head tells generated crops from real ones.

The base is a transformers folder of CLIP or DINO, or SAM's encoder of a CLUE, named `sam:mini`, `sam:sd3-medium` or
`sam:FOLDER`. A folder of this kind:

    method.json             base, settings (`Settings`), calibration, training
    adapters.safetensors    what learned: the adapters and the head
    card.md                 for people

A picture is cut into a grid of crops at its own resolution, as resizing removes the traces that are looked for. Its
score is the logistic of the mean logit of the upper half of its crops: plain sky carries no trace, and one odd crop is
none of a whole picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from model.checkpoint import CheckpointError, inspect
from model.config import Between, Keyed, check, dotted
from model.preset import LARGEST, Size
from model.registry import BasesError, find, registered
from model.synthetic import METHOD_FILE, Method, MethodError
from model.synthetic.method_folder import Description, base_of, method_of, read_description

if TYPE_CHECKING:
    import torch

    from model.synthetic import Detector
    from model.synthetic.learner import Learner
    from model.synthetic.options import SyntheticOptions

KIND = "vision"
WEIGHTS_FILE = "adapters.safetensors"
CARD_FILE = "card.md"
SAM = "sam:"
"""Before the name of a CLUE, whose SAM encoder is the base."""


@dataclass(frozen=True, slots=True)
class Settings(Keyed):
    """What the network of a method is.

    Attributes:
        adapt: which adapters it has.
        rank: of LoRA, or of the residual that learned.
        alpha: LoRA is scaled by alpha / rank.
        targets: ends of the names of the layers that have adapters.
        crop: side of a crop in pixels.
        base_sizes: of the base, for messages (`model.synthetic.method_folder.sizes_of`).
    """

    adapt: Literal["lora", "svd"]
    rank: Size
    alpha: Annotated[float, Between(0, LARGEST, above=True)]
    targets: tuple[str, ...]
    crop: Annotated[int, Between(16, 4096)]
    base_sizes: dict[str, int | str] = field(default_factory=dict)


def describe(name_or_path: str) -> Method:
    """What is known of a method, without torch.

    Raises:
        MethodError: the folder is damaged, holds a pickle instead of safetensors, or its base is missing or another.
    """
    folder = Path(name_or_path)
    description, settings = read(folder)
    check_base(description, folder)
    return method_of(name_or_path, description, (WEIGHTS_FILE,), limits(settings))


def load(method: Method, device: str, dtype: torch.dtype) -> Detector:
    """Build the network, with its adapters merged.

    Raises:
        MethodError: the weights are damaged or do not fit, or the base is missing or another.
        RuntimeError, MemoryError: the device has not the memory for it.
    """
    from model.synthetic.vision_network import VisionDetector, load_network

    assert method.folder is not None
    description, settings = read(method.folder)
    network = load_network(description, settings, method.folder / WEIGHTS_FILE, device, dtype)
    return VisionDetector(network, settings.crop)


def learner(base: str, options: SyntheticOptions, device: str, dtype: torch.dtype) -> Learner:
    """A new network to train.

    Args:
        base: name or folder of the base.
        options: `adapt`, `rank`, `alpha`, `targets`, `crop` and `seed` count.
        device: where it goes.
        dtype: number format of the frozen base; adapters and head are float32.

    Raises:
        MethodError: there is no such base, it is no vision transformer, or an option does not fit it.
        RuntimeError, MemoryError: the device has not the memory for it.
    """
    from model.synthetic.vision_network import new_learner

    return new_learner(base, options, device, dtype)


def read(folder: Path) -> tuple[Description, Settings]:
    """What a folder's `method.json` holds.

    Raises:
        MethodError: it is missing, or cannot be understood.
    """
    description = read_description(folder, KIND)
    try:
        settings = check(Settings, description.settings, lambda place: dotted(("settings", *place)))
    except ValueError as error:
        raise MethodError(f"{folder / METHOD_FILE} cannot be understood: {error}") from error
    return description, settings


def check_base(description: Description, folder: Path) -> None:
    """Compare the base that is here with the one that a method was trained on.

    Raises:
        MethodError: it is missing or another; both digests are in the message.
    """
    if not description.base.startswith(SAM):
        base_of(description, folder)
        return
    try:
        here = sam_digest(description.base)
    except (BasesError, CheckpointError) as error:
        raise MethodError(f"{folder} needs the base {description.base}: {error}") from error
    if here != description.base_digest:
        raise MethodError(
            f"{folder} was trained on another {description.base}: SHA-256 {description.base_digest} there, {here} here"
        )


def sam_digest(base: str) -> str:
    """SHA-256, hex, of a base whose name begins with `sam:`: of registered weights that of SAM's, else of the model.

    Raises:
        CheckpointError, BasesError: there is none.
    """
    name = base.removeprefix(SAM)
    if name in registered():
        digests = find(name).digests()
        if "sam" not in digests:
            raise BasesError(f"{name} has no SAM")
        return digests["sam"]
    return inspect(name).digest


def limits(settings: Settings) -> tuple[str, ...]:
    """What a reader must know of a method of this kind."""
    return (
        "It judges traces in crops at the picture's own resolution: after resizing, strong compression or a screenshot "
        "they may be gone.",
        f"Pictures with a side below {smallest(settings.crop)} pixels are not judged.",
    )


def smallest(crop: int) -> int:
    """The shortest side of a picture that is judged: below, more than half of a crop would be its own mirror image."""
    return crop // 2
