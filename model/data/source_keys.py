"""The sources of a mix as they are written: a kind, a name, a weight, whatever the task."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import AfterValidator

from model.config import Between, ConfigError, ConfigFile, Keyed, Place, check, unknown_key

_TASKS = {
    "localization": ("pairs", "list", "authentic", "forge"),
    "synthetic": ("real", "generated", "laundered", "align"),
}
"""Kinds of sources of each task of `clue train`, without public sets: for messages."""


def printable_name(name: str) -> str:
    """The name; ValueError if it is too long, empty or not printable."""
    if not (0 < len(name) <= 60 and name.isprintable()):
        raise ValueError("1 to 60 printable characters")
    return name


@dataclass(frozen=True, slots=True)
class SourceKeys(Keyed):
    """The keys of a source beside its kind."""

    name: Annotated[str, AfterValidator(printable_name)] = ""
    weight: Annotated[float, Between(0, 1e6)] = 1.0


def read_sources(
    file: ConfigFile, found: Sequence[dict[str, Any]], kinds: Mapping[str, Any], expected: str, *more: str
) -> list[tuple[SourceKeys, str, Any]]:
    """The name and weight of each source, its kind, and what it consists of; no two have one name.

    Args:
        found: what `sources` holds.
        kinds: the type of each kind.
        expected: the kinds in words, for messages.
        more: keys that stand beside the kind, and are read as if they stood in it.

    Raises:
        ConfigError: an unknown key, no kind or several, a name twice, a wrong value, or no weight above 0.
    """
    sources: dict[str, tuple[SourceKeys, str, Any]] = {}
    for number, written in enumerate(found):
        keys, kind, data = _source(file, number, written, sources, kinds, expected, more)
        sources[keys.name] = (keys, kind, data)
    if not any(keys.weight for keys, _, _ in sources.values()):
        raise ConfigError(file.where("sources"), "found only weights of 0", "at least one source with a weight above 0")
    return list(sources.values())


def _source(
    file: ConfigFile,
    number: int,
    found: dict[str, Any],
    taken: Collection[str],
    kinds: Mapping[str, Any],
    expected: str,
    more: Collection[str],
) -> tuple[SourceKeys, str, Any]:
    at = ("sources", number)
    own = [key for key in found if key in kinds]
    known = (*kinds, *more, "name", "weight")
    unknown = next((key for key in found if key not in known), None)
    for task, its in _TASKS.items():
        if unknown in its and kinds.keys().isdisjoint(its):
            expected = f"{expected}; or clue train --task {task}"
            raise ConfigError(file.where(*at, unknown), f"`{unknown}` is a source of --task {task}", expected)
    if unknown is not None:
        raise unknown_key(file.where(*at, unknown), unknown, known)
    if len(own) != 1:
        what = f"found both `{own[0]}` and `{own[1]}`" if own else "found no kind of source"
        raise ConfigError(file.where(*at), what, expected)
    kind = own[0]
    beside = {key: found[key] for key in found if key in more}
    own_keys = {key: found[key] for key in found if key != kind and key not in beside}
    keys = check(SourceKeys, own_keys, lambda key: file.where(*at, *key))
    if keys.name in taken:
        raise ConfigError(file.where(*at, "name"), f"found `{keys.name}`", "a name that no other source has")
    name = keys.name or next(n for n in (kind, *(f"{kind} {i}" for i in range(2, len(taken) + 3))) if n not in taken)
    if not beside:
        return replace(keys, name=name), kind, file.check(kinds[kind], *at, kind)
    short = not isinstance(found[kind], dict)
    inner = {"paths": found[kind]} if short else found[kind]

    def where(place: Place) -> str:
        if place and place[0] in beside:
            return file.where(*at, *place)
        return file.where(*at, kind, *(place[1:] if short else place))

    return replace(keys, name=name), kind, check(kinds[kind], inner | beside, where, file.path.parent)
