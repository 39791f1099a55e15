"""The part of a recipe that says which samples are made of a mix, and how often each is seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Kind = Literal["small", "splices", "native", "large", "document", "screen", "composite"]
Edit = Literal[
    "authentic", "splice", "copy_move", "removal", "local_edit", "resynthesis", "text", "splices", "document"
]
Side = Annotated[int, Field(ge=32, le=4096, multiple_of=8)]

COMPOSITE = (256, 256)
"""Height and width of composites."""


def _size(value: Any) -> Any:
    return value.split("x") if isinstance(value, str) else value


Size = Annotated[tuple[Side, Side], BeforeValidator(_size)]
"""Height and width, pixels; written as `256x384`."""


class Strict(BaseModel):
    """A part of a recipe: no unknown keys, no NaN; a list may be written with commas, and null as a word."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _written(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {key: cls._read(key, value) for key, value in values.items()}

    @classmethod
    def _read(cls, key: str, value: Any) -> Any:
        field = cls.model_fields.get(key)
        if not isinstance(value, str) or field is None:
            return value
        return None if value in ("null", "") else value.split(",") if "tuple" in str(field.annotation) else value


Group = Literal["native", "web", "copy_moves", "splices", "documents"]


class Finish(Strict):
    """What the operating point is chosen from in the end; `recipes/mini.yaml` says what each value is."""

    seed: Annotated[int, Field(ge=0)]
    counts: dict[Group, Annotated[int, Field(ge=0, le=10**6)]]
    shifts: Annotated[tuple[float, ...], Field(min_length=1)]
    regions: tuple[tuple[float, float], ...]
    marked: Share


class Making(Strict):
    """Samples that are made of a mix; `recipes/mini.yaml` says what each value is."""

    shares: dict[Kind, Share]
    small_sizes: dict[Size, Share]
    large_sizes: tuple[Size, ...]
    native_sizes: tuple[Size, ...]
    tiles: tuple[Size, ...]
    large_side: Annotated[int, Field(ge=1)]
    plain: Share
    large_kinds: dict[Edit, Share]
    native_kinds: dict[Edit, Share]
    camera: Share
    passed_on: dict[Kind, Share]
    recompressed: Share
    instead: Share
    small_weight: Annotated[float, Field(gt=0, le=100)]
    forged: Share
    start: Annotated[int, Field(ge=1, le=10**7)]
    views: Annotated[float, Field(gt=0, le=1e6)]

    @model_validator(mode="after")
    def _drawn(self) -> Making:
        for name in ("shares", "small_sizes", "large_kinds", "native_kinds"):
            if not sum(getattr(self, name).values()) > 0:
                raise ValueError(f"at least one of `{name}` above 0")
        return self

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of the samples; one that is higher than wide is transposed."""
        return sorted({(min(size), max(size)) for size in (*self.small_sizes, *self.tiles, COMPOSITE)})
