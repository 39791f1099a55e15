"""Fixtures that more than one test folder uses. Keep it small: what one folder needs goes into its own conftest."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The config folder of this test alone, not made yet: no weights of others are registered."""
    monkeypatch.setenv("CLUE_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture(scope="session")
def base_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`sd3/` and `sam.pth` of the tiny base models, as they are published: read them only."""
    from tests.base_layouts import write_sam, write_sd3

    folder = tmp_path_factory.mktemp("bases")
    write_sd3(folder / "sd3")
    write_sam(folder / "sam.pth")
    return folder


@pytest.fixture(scope="session")
def sample_case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `clue sample` writes, written once: read it only. Its truth is in the sibling `case-truth`."""
    from clue_cli.sample import write_sample

    folder = tmp_path_factory.mktemp("sample") / "case"
    write_sample(folder)
    return folder
