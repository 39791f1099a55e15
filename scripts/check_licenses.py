"""Check the licences of what `pip install clue-forensics` brings along: no GPL, AGPL, or unnamed LGPL.

Follows the requirements in pyproject.toml through the installed distributions, extras left out, and judges each
one's licence as its metadata states it. The list is of what is allowed: an unknown licence fails, so that a person
looks at it. Exit code 0 if all are allowed, 1 if not.

    python scripts/check_licenses.py             what is not allowed
    python scripts/check_licenses.py --list      every distribution with its licence
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent

ALLOWED = re.compile(
    r"(the )?(new |modified |simplified |[23]-clause )?"
    r"(0bsd|apache|bsd|bsl-1\.0|cc0|cnri-python|hpnd|isc|mit|mpl-2\.0|mozilla public license 2\.0|psf|python software"
    r"|public domain|unlicense|zlib)\b",
    re.IGNORECASE,
)
"""Beginnings of the permissive licences' names, and MPL 2.0, whose copyleft ends at the file's edge."""

EXCEPTIONS = {
    r"cuda-toolkit|nvidia-.*": "proprietary but redistributable CUDA libraries, which PyTorch's Linux wheels on PyPI "
    "bring along; a CPU build of PyTorch does without them",
    "pi-heif": "BSD itself; its wheels hold libheif and libde265 as shared libraries, which the LGPL lets anybody "
    "replace, and no encoder: nothing under the GPL",
}
"""Distributions (a pattern of their names) that are none of the above, and why they are accepted."""

TITLES = {
    "apache license": "Apache-2.0",
    "mit license": "MIT",
    "redistribution and use in source and binary forms": "BSD",
}
"""What licence texts begin with or contain, for distributions whose metadata names none."""

LONGEST_NAME = 120
"""A License field longer than this, in characters, is the text of a licence and not its name."""


def requirements(lines: Iterable[str], extras: Iterable[str] = ()) -> Iterator[Requirement]:
    """The requirements that apply on this machine, with these extras."""
    environments = [{"extra": extra} for extra in ("", *extras)]
    for requirement in map(Requirement, lines):
        if requirement.marker is None or any(map(requirement.marker.evaluate, environments)):
            yield requirement


def closure(lines: Iterable[str]) -> dict[str, metadata.Distribution]:
    """Every distribution that these requirements bring along, by canonical name.

    Raises:
        metadata.PackageNotFoundError: one of them is not installed.
    """
    found: dict[str, metadata.Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = list(requirements(lines))
    while waiting:
        requirement = waiting.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        distribution = found[key[0]] = metadata.distribution(requirement.name)
        waiting += requirements(distribution.requires or (), requirement.extras)
    return found


def stated_licence(distribution: metadata.Distribution) -> str:
    """The licence as the metadata states it: its expression, its short name, its classifiers, or its file's title."""
    fields = distribution.metadata
    if expression := fields.get_all("License-Expression"):
        return str(expression[0])
    classifiers = [line for line in fields.get_all("Classifier") or [] if line.startswith("License ::")]
    names = [line.rsplit(" :: ", 1)[-1] for line in classifiers]
    if names:
        return " AND ".join(names)
    name = " ".join(fields.get_all("License") or []).strip()
    if name and name.upper() != "UNKNOWN" and len(name) <= LONGEST_NAME:
        return name
    for path in distribution.files or ():
        if re.match(r"(licen[cs]e|copying)", path.name, re.IGNORECASE) and ".dist-info" in str(path):
            text = " ".join(path.read_text(encoding="utf-8").lower().split())
            for title, licence in TITLES.items():
                if title in text[:2000]:
                    return licence
    return "unknown"


def is_allowed(licence: str) -> bool:
    """Whether every part that is joined with AND has an alternative, joined with OR, that is allowed."""
    parts = re.split(r"\s+and\s+|[,;]", licence, flags=re.IGNORECASE)
    return all(
        any(ALLOWED.match(choice.strip(" ()")) for choice in re.split(r"\s+or\s+", part, flags=re.IGNORECASE))
        for part in parts
    )


def exception_for(name: str) -> str | None:
    """Why a distribution is accepted in spite of its licence; None if it is not."""
    return next((why for pattern, why in EXCEPTIONS.items() if re.fullmatch(pattern, name)), None)


def main(arguments: list[str] | None = None) -> int:
    """Print the verdict; returns the exit code."""
    parser = argparse.ArgumentParser(description="Check the licences of the default installation.")
    parser.add_argument("--list", action="store_true", help="list every distribution with its licence")
    options = parser.parse_args(arguments)

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    distributions = closure(project["dependencies"])
    refused = 0
    for name, distribution in sorted(distributions.items()):
        licence = stated_licence(distribution)
        verdict = "ok" if is_allowed(licence) else exception_for(name)
        refused += verdict is None
        if options.list or verdict is None:
            print(f"{name}: {licence}: {verdict or 'NOT ALLOWED'}")
    print(f"{len(distributions)} distributions in the default installation, {refused} not allowed.")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
