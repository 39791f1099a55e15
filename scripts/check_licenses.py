"""Check the licences of what `pip install clue-forensics` and its extras bring along: no GPL, AGPL, or unnamed LGPL.

Follows the requirements in pyproject.toml through the installed distributions, and judges each one's licence as its
metadata states it. What a wheel holds beside its own code the metadata do not say: what is known of that stands in
EXCEPTIONS. The list is of what is allowed: an unknown licence fails, so that a person looks at it. Exit code 0 if all
are allowed, 1 if not.

    python scripts/check_licenses.py             what is not allowed in the default installation
    python scripts/check_licenses.py --extras    the same of what the extras bring besides
    python scripts/check_licenses.py --list      every distribution with its licence
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
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
    "lxml": "BSD itself; its wheels hold GNU libiconv (LGPL) inside the extension module, which anybody can build "
    "again from lxml's source; pikepdf needs it for the metadata of a PDF, which clue does not read",
    "pikepdf": "MPL-2.0, whose copyleft ends at the file's edge; its wheels hold qpdf and libjpeg-turbo, which are "
    "permissive, and for musl the GCC runtime (GPL with the runtime exception)",
}
"""Distributions (a pattern of their names) that are none of the above, or hold something else; why each is accepted."""

EXTRAS = {
    "py7zr|pybcj|pyppmd|inflate64|multivolumefile": "LGPL, used as the libraries they are",
    "opencv-python-headless": "Apache-2.0 itself; its wheels hold FFmpeg, built without its GPL parts, as shared "
    "libraries (LGPL), and the GCC runtime (GPL with the runtime exception)",
    "ray": "Apache-2.0 itself; its wheels hold ray_dist.jar, for workers in Java, which clue never starts: permissive "
    "libraries, and some under a choice of licences (javassist and JNA: Apache-2.0 or LGPL; JavaMail: CDDL or GPL with "
    "the classpath exception)",
    "rawpy": "MIT itself; its wheels hold LibRaw as a shared library (LGPL or CDDL) and libgomp (GPL with the runtime "
    "exception)",
}
"""The same of what only the extras bring: nobody has it who did not ask for it."""

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


def closure(lines: Iterable[str], missing: set[str] | None = None) -> dict[str, metadata.Distribution]:
    """Every distribution that these requirements bring along, by canonical name.

    Args:
        missing: collects the names of those that are not installed.

    Raises:
        metadata.PackageNotFoundError: one of them is not installed, and there is no `missing`.
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
        try:
            distribution = found[key[0]] = metadata.distribution(requirement.name)
        except metadata.PackageNotFoundError:
            if missing is None:
                raise
            missing.add(key[0])
            continue
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


def exception_for(name: str, exceptions: Mapping[str, str] = EXCEPTIONS) -> str | None:
    """Why a distribution is accepted in spite of its licence, or of what its wheels hold; None if nothing is said."""
    return next((why for pattern, why in exceptions.items() if re.fullmatch(pattern, name)), None)


def main(arguments: list[str] | None = None) -> int:
    """Print the verdict; returns the exit code."""
    parser = argparse.ArgumentParser(description="Check the licences of what an installation brings along.")
    parser.add_argument("--extras", action="store_true", help="check what only the extras bring, not the default")
    parser.add_argument("--list", action="store_true", help="list every distribution with its licence")
    options = parser.parse_args(arguments)

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    distributions, exceptions, what = closure(project["dependencies"]), EXCEPTIONS, "the default installation"
    if options.extras:
        extras = project["optional-dependencies"]
        wanted = [line for name in extras if name not in ("all", "test") for line in extras[name]]
        default, exceptions, what = distributions.keys(), EXCEPTIONS | EXTRAS, "the extras"
        missing: set[str] = set()
        distributions = {name: found for name, found in closure(wanted, missing).items() if name not in default}
        if missing:
            print(f"Not installed, so not checked: {', '.join(sorted(missing))}.")
    refused = 0
    for name, distribution in sorted(distributions.items()):
        licence = stated_licence(distribution)
        verdict = exception_for(name, exceptions) or ("ok" if is_allowed(licence) else None)
        refused += verdict is None
        if options.list or verdict is None:
            print(f"{name}: {licence}: {verdict or 'NOT ALLOWED'}")
    print(f"{len(distributions)} distributions in {what}, {refused} not allowed.")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
