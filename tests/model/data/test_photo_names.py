"""Names of source photos by a pattern: what it finds, and that no pattern can hold a training up."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from model.data.datasets import list_entries
from model.data.mix import Authentic, Source
from model.data.photo_names import SlowPatternError, photo_names
from model.data.yaml_reader import MixError

CATASTROPHE = re.compile("^((a|a)+)+$")


@pytest.mark.parametrize(
    ("pattern", "stem", "photo"),
    [
        (r"^(case\d+)_", "case12_edited", "case12"),
        (r"^(case\d+)_", "other", "other"),
        (r"^(x?)", "other", "other"),
        (r"(?i)^(Ä+)", "ää\nb", "ää"),
        (r"^(.)", os.fsdecode(b"\xff\xfe"), os.fsdecode(b"\xff")),
    ],
    ids=["found", "not found", "nothing found", "flags", "not UTF-8"],
)
def test_what_is_found(pattern: str, stem: str, photo: str) -> None:
    assert photo_names([stem, stem], re.compile(pattern)) == [photo, photo]


def test_without_a_pattern_or_a_name() -> None:
    assert photo_names(["a"], None) == ["a"]
    assert photo_names([], re.compile("(a)")) == []


def test_a_pattern_that_would_never_end_is_stopped() -> None:
    with pytest.raises(SlowPatternError, match="takes more than 0 s for 2 names"):
        photo_names(["b", "a" * 60 + "b"], CATASTROPHE, seconds=0.4)


def test_it_is_told_with_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{'a' * 60}b.jpg").touch()
    monkeypatch.setattr("model.data.photo_names.SECONDS", 0.4)
    source = Source("s", 1, Authentic((tmp_path,), CATASTROPHE), "mix.yaml, line 3, sources[0].authentic")
    with pytest.raises(MixError, match=r"line 3, sources\[0\]\.authentic\.photo: .+more than 0 s.+without repeats"):
        list_entries(source)


def test_a_process_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.data.photo_names._SEARCH", "raise MemoryError('all gone')")
    with pytest.raises(SlowPatternError, match="cannot be applied: MemoryError: all gone"):
        photo_names(["a"], re.compile("(a)"))
