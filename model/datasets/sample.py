"""What a set consists of: images with their masks, and what is wrong with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from model.config import Text
from model.images.masks import MaskStyle


class Kind(StrEnum):
    """What is wrong, in the words of the result file."""

    MASK_MISSING = "mask missing"
    """A forged image without a ground truth: it counts at image level only."""
    MASK_AMBIGUOUS = "mask ambiguous"
    """Several masks fit by name; none is used."""
    MASK_WITHOUT_IMAGE = "mask without an image"
    MASK_UNREADABLE = "mask unreadable"
    """As if missing."""
    MASK_SIZE = "mask of another size"
    """The prediction is brought to the size of the mask, as the definition says, and scored."""
    MASK_EMPTY = "mask empty"
    """A forged image whose mask marks nothing: it counts at image level only."""
    SET_INVERTED = "set looks inverted"
    """Most masks mark most of the picture and its border: white probably means authentic here."""
    IMAGE_MISSING = "image missing"
    IMAGE_UNREADABLE = "image unreadable"
    FOLDER_UNREADABLE = "folder unreadable"
    """A folder that may not be read, or a link to one, which is not followed: what it holds is not measured."""
    OUTSIDE_LAYOUT = "outside the layout"
    """A picture, or a folder that holds some, where the layout expects none: it is not measured."""
    SAME_TWICE = "same bytes twice"
    """Two pictures of one class that count as two."""
    SAME_IN_TWO_CLASSES = "same bytes in two classes"
    """At most one of the two classes can be right; both pictures count."""
    NAME_UNKNOWN = "name not understood"
    """A picture whose name does not say whether it is forged; it is not used."""
    LIST_LINE = "line not understood"
    MAP_NOT_FINITE = "map not finite"
    """The prediction holds NaN or infinity; it is not scored."""
    MAP_OUT_OF_RANGE = "map out of range"
    """The prediction leaves [0, 1]; it is not scored."""
    MAP_MISSING = "prediction missing"
    MAP_UNREADABLE = "prediction unreadable"
    MAP_WITHOUT_IMAGE = "prediction without an image"
    MAP_SIZE = "prediction of another size"
    """The size of neither the picture nor its mask; it is brought to the size of the mask and scored."""
    NOT_JUDGED = "picture not judged"
    """The method has no answer for it, such as for one that is too small."""
    SCORE_NOT_FINITE = "score not finite"
    SCORE_OUT_OF_RANGE = "score out of range"
    """It leaves [0, 1]; it is not used."""
    PREDICTION_TWICE = "prediction given twice"
    """Neither is used."""
    TRUTH_DIFFERS = "ground truth differs"
    """Two results that are compared were not measured on the same ground truth."""
    MORE = "more"
    """Not a problem: how many further ones a list leaves out."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: its kind, what it concerns (a key or a path below the root), and the details."""

    kind: Kind = field(metadata={"description": "What, in words that do not change."})
    name: Text = field(metadata={"description": "The image, mask or map; printable in results."})
    detail: Text = field(default="", metadata={"description": "Details; may be empty."})

    def __str__(self) -> str:
        return f"{self.name}: {self.kind.value}" + (f" ({self.detail})" if self.detail else "")

    def to_dict(self) -> dict[str, str]:
        """Plain JSON types."""
        return {key: str(value) for key, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a set.

    Attributes:
        key: path of the image below the folder of the set, with `/`; names it in every result.
        masks: its ground truth, mostly one file; none for authentic images, or where it is missing.
        forged: its class.
        manipulation: `splice`, `copy-move`, `removal`, `inpainting`, or empty where the set does not say.
        style: how its masks mark forged pixels.
        photos: names of the photos it was made from, which decide its side of a split; empty: not asked for.
        part: of the set, such as `camera`; empty: the set has none.
        source: what images share that are not independent, such as their photo: intervals are over sources. Empty: each
            image stands for itself.
        text: a caption of what is forged; empty: there is none.
    """

    key: str
    image: Path
    masks: tuple[Path, ...]
    forged: bool
    manipulation: str = ""
    style: MaskStyle = "white"
    photos: tuple[str, ...] = ()
    part: str = ""
    source: str = ""
    text: str = ""

    @property
    def group(self) -> str:
        """The source photos in one word."""
        return "+".join(self.photos)


@dataclass(slots=True)
class Listing:
    """What a set holds: its samples, its problems, and how many files are not pictures."""

    samples: list[Sample] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    ignored: int = 0
