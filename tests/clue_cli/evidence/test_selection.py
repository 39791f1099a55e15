"""Which paths a pattern is meant for."""

from __future__ import annotations

import time

import pytest

from clue_cli.evidence.earlier_results import member_findings
from clue_cli.evidence.selection import Selection


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.jpg", "IMG_1.JPG", True),
        ("*.jpg", "a/b/c.jpg", True),
        ("*.jpg", "case.zip!/dcim/1.jpg", True),
        ("*.jpg", "case.zip!/dcim/1.jpg~2", True),
        ("*.jpg", "a.jpg.png", False),
        ("DCIM/*", "DCIM/100APPLE/1.jpg", True),
        ("DCIM/*", "phone.zip!/DCIM/1.jpg", True),
        ("DCIM/*", "x/DCIM/1.jpg", False),
        ("*/DCIM/*", "x/DCIM/1.jpg", True),
        ("cache", "a/cache/b/1.jpg", True),
        ("cache/", "cache/1.jpg", True),
        ("a/cache", "a/cache/1.jpg", True),
        ("case.zip", "x/case.zip!/1.jpg", True),
        ("x/case.zip", "x/case.zip!/in.zip!/1.jpg", True),
        ("inner/1.jpg", "a.zip!/b.zip!/inner/1.jpg", True),
        ("wow!", r"wow\u0021/1.jpg", True),
        ("b[0-9].png", "a/b7.png", True),
        ("ä.jpg", "Ä.jpg", True),
    ],
)
def test_patterns(pattern: str, path: str, expected: bool) -> None:
    assert Selection(include=(pattern,)).includes(path) is expected
    assert Selection(exclude=(pattern,)).excludes(path) is expected


def test_everything_is_wanted_by_default() -> None:
    assert Selection().includes("a")
    assert not Selection().excludes("a")
    assert not Selection().is_older(0)


def test_hostile_paths_cost_no_more_than_others() -> None:
    chosen = Selection(include=("*.jpg", "x/*"), exclude=("*/DCIM/*",))
    began = time.process_time()
    for path in ("a/" * 250_000 + "b", "~1" * 250_000 + "x", "masks/" * 80_000 + ".p0000" * 4000):
        assert not chosen.includes(path)
        assert not chosen.excludes(path)
        assert not member_findings(path)
    assert time.process_time() - began < 20
