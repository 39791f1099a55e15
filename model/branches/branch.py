"""What the rest of the program asks of a backbone. Without torch: the network itself is imported to build it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.preset import BranchSpec, Preset

if TYPE_CHECKING:
    from model.branches.network import BranchNetwork
    from model.registry import Base

Misfit = tuple[str, bool, str]
"""Key of a preset, whether its value is wrong, and what was expected."""


@dataclass(frozen=True, slots=True)
class Licence:
    """A licence: its name, its address, and what it allows in two sentences at most."""

    name: str
    url: str
    allows: str


APACHE = Licence(
    "Apache-2.0",
    "https://www.apache.org/licenses/LICENSE-2.0",
    "It allows any use, with the licence and its notices kept.",
)


@dataclass(frozen=True, slots=True)
class HubFolder:
    """Weights in a repository of the Hugging Face Hub, `owner/name`, with patterns of file names."""

    repository: str
    wanted: tuple[str, ...]
    unwanted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WebFile:
    """Weights in one file on the web, with its SHA-256 in hex."""

    url: str
    sha256: str


class Branch(ABC):
    """A backbone that a preset can name in `backbones`; its features are one input of the fusion.

    Attributes:
        name: of its module in the network, its adapters on disk, and its options.
        title: how messages call it.
        parts: of its registered weights, as `models.json` and checkpoints name them.
        licence: of its published weights.
        spec: class of its sizes in `Preset.specs`. SD3 and SAM have fields of their own in `Preset` instead.
    """

    name: str
    title: str
    parts: tuple[str, ...]
    licence: Licence = APACHE
    spec: type[BranchSpec] = BranchSpec

    @abstractmethod
    def build(self, preset: Preset) -> BranchNetwork:
        """The network with random weights, on torch's default device."""

    @abstractmethod
    def cell(self, preset: Preset) -> int:
        """Sides of an input are multiples of this many pixels."""

    @abstractmethod
    def lora_targets(self, preset: Preset) -> tuple[str, ...]:
        """Ends of the names of the linear layers that get adapters, inside `BranchNetwork.adapted`."""

    def largest(self, preset: Preset) -> int | None:
        """The longest side of an input in pixels; None: any."""
        return None

    def noise_shape(self, preset: Preset, height: int, width: int) -> tuple[int, int, int] | None:
        """Shape C×h×w of the noise it needs for an input in pixels; None: it needs none."""
        return None

    def from_scratch(self, preset: Preset) -> bool:
        """Whether the sizes rule out pretrained weights."""
        return False

    def misfits(self, preset: Preset) -> Iterator[Misfit]:
        """Checks of its sizes, in an order in which a later one may rely on the earlier."""
        yield from ()

    def sizes(self, preset: Preset) -> dict[str, dict[str, Any]]:
        """What its pretrained weights depend on, in JSON types, by part."""
        spec = dict(preset.to_dict()["specs"][self.name])
        del spec["adapt"]
        return {self.name: spec}

    def source(self, preset: Preset) -> HubFolder | WebFile | None:
        """Where weights of these sizes are published; None: nowhere."""
        return None

    def fitted(self, preset: Preset, base: Base) -> Preset:
        """The preset with sizes that registered weights may change."""
        return preset

    def derived(self, preset: Preset, place: Path, base: Base, folder: Path, say: Callable[[str], None]) -> Path:
        """The file of a part that is computed from the branch's weights at `place`, in `folder`; kept if it is there.

        Raises:
            BasesError: it cannot be computed.
            OSError: the folder cannot be written.
        """
        raise NotImplementedError(f"no part of {self.title} is computed")

    def tokens(self, preset: Preset, files: Mapping[str, tuple[Path, ...]]) -> dict[str, int]:
        """Prompt tokens by text encoder, for a backbone that has a prompt."""
        return {}
