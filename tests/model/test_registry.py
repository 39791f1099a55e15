"""The notes about base weights: kept whole, believed only while the files are the same."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from model import registry
from model.branches import parts_of
from model.presets import SD3_MEDIUM
from model.registry import REGISTRY_FILE, Base, BasesError


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLUE_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def base(tmp_path: Path) -> Base:
    parts = {}
    for part in parts_of(SD3_MEDIUM):
        (tmp_path / part).write_text(part)
        parts[part] = (registry.stored(tmp_path / part),)
    return Base("sd3-medium", SD3_MEDIUM, parts, {"clip": 77, "t5": 256}, "2026-01-01", "/models/sd3")


def test_what_is_put_is_found_until_it_is_dropped(base: Base) -> None:
    assert registry.registered() == {}
    registry.put(base)
    assert registry.find("sd3-medium") == base
    registry.drop("sd3-medium")
    with pytest.raises(BasesError, match="not registered; add them with `clue models add sd3-medium`"):
        registry.find("sd3-medium")
    with pytest.raises(BasesError, match="sd3-medium is not registered; registered: nothing"):
        registry.drop("sd3-medium")


def test_a_part_of_several_files_has_one_digest(base: Base) -> None:
    one = base.digests()["sam"]
    assert one == base.parts["sam"][0].sha256
    both = registry.part_digest([one, base.digests()["vae"]])
    assert len(both) == 64
    assert both not in base.digests().values()


@pytest.mark.parametrize("part", parts_of(SD3_MEDIUM))
def test_a_change_is_noticed(base: Base, part: str) -> None:
    registry.put(base)
    path = base.paths(part)[0]
    os.utime(path, ns=(1, 1))
    assert registry.find("sd3-medium") == base  # another time, the same content
    path.write_text(part.upper())
    os.utime(path, ns=(2, 2))
    with pytest.raises(BasesError, match=f"the {part} of sd3-medium changed since it was added: "):
        registry.find("sd3-medium")
    (problem,) = registry.verify(base)
    assert base.parts[part][0].sha256 in problem
    path.unlink()
    with pytest.raises(BasesError, match=f"the {part} of sd3-medium cannot be read: .*No such file"):
        registry.find("sd3-medium")
    assert "No such file" in registry.verify(base)[0]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 9}', '{"format": 1, "models": {"x": {"parts": {}}}}', '{"format": 1, "models": []}'],
)
def test_a_damaged_registry_is_named(config: Path, text: str) -> None:
    config.mkdir()
    (config / REGISTRY_FILE).write_text(text)
    with pytest.raises(BasesError, match=f"{REGISTRY_FILE} cannot be understood"):
        registry.registered()


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        (("parts", "sam", 0, "sha256"), 7, r"\.parts\.sam\[0\]\.sha256: found"),
        (("parts", "sam", 0, "path"), 5, r"\.parts\.sam\[0\]\.path: found"),
        (("parts", "sam", 0, "bytes"), "many", r"\.parts\.sam\[0\]\.bytes: found"),
        (("parts", "sam", 0, "mtime_ns"), None, r"\.parts\.sam\[0\]\.mtime_ns: found"),
        (("tokens",), {"clip": float("inf")}, r"\.tokens\.clip: found"),
        (("tokens",), [], r"\.tokens: found"),
        (("parts",), [], r"\.parts: found"),
    ],
)
def test_what_was_edited_is_refused(
    base: Base, config: Path, place: tuple[str | int, ...], value: object, named: str
) -> None:
    registry.put(base)
    document = json.loads((config / REGISTRY_FILE).read_text())
    inner = document["models"]["sd3-medium"]
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (config / REGISTRY_FILE).write_text(json.dumps(document))
    with pytest.raises(BasesError, match=rf"models\.sd3-medium{named}"):
        registry.registered()


def test_without_a_home_folder_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUE_CONFIG", "~nobody-of-this-name/clue")
    with pytest.raises(BasesError, match="there is no home folder; name a config folder with CLUE_CONFIG"):
        registry.registered()


def test_an_unreadable_registry_is_named(config: Path) -> None:
    (config / REGISTRY_FILE).mkdir(parents=True)
    with pytest.raises(BasesError, match="cannot be read"):
        registry.registered()


def test_a_full_disk_leaves_the_registry_as_it_was(base: Base, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.put(base)
    before = (config / REGISTRY_FILE).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("model.whole_file.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        registry.drop("sd3-medium")
    assert (config / REGISTRY_FILE).read_bytes() == before
    assert not [path for path in config.iterdir() if path.name not in (REGISTRY_FILE, f".{REGISTRY_FILE}.lock")]


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"CLUE_CONFIG": "/c"}, "/c"),
        ("linux", {"XDG_CONFIG_HOME": "/x"}, "/x/clue"),
        ("linux", {}, "/h/.config/clue"),
        ("darwin", {}, "/h/Library/Application Support/clue"),
        ("win32", {"APPDATA": "/a"}, "/a/clue"),
        ("win32", {}, "/h/AppData/Roaming/clue"),
    ],
)
def test_where_the_config_folder_is(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
) -> None:
    for name in ("CLUE_CONFIG", "XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/h"} | variables).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert registry.config_folder() == Path(expected)


def test_a_missing_file_is_no_note(tmp_path: Path) -> None:
    with pytest.raises(BasesError, match="cannot be read"):
        registry.stored(tmp_path / "missing")
