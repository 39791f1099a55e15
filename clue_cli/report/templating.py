"""Templates, styles and scripts of a package, and the policy under which a page may use them."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from clue_cli.report.inert import printable


@cache
def environment(package: str) -> Environment:
    """The templates of a package: all text is escaped and printable, and a name that is not given is an error."""
    return Environment(
        loader=PackageLoader(package, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )


@cache
def asset(package: str, name: str) -> str:
    """A style or a script of a package."""
    return files(package).joinpath("assets", name).read_text(encoding="utf-8")


def content_policy(*, style: str, script: str | None = None, images: str) -> str:
    """The content-security policy: this style, this script or none, pictures from `images`, and nothing else."""
    return "; ".join(
        [
            "default-src 'none'",
            *([] if script is None else [f"script-src 'sha256-{_hash(script)}'"]),
            f"style-src 'sha256-{_hash(style)}'",
            f"img-src {images}",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
