"""Fixtures that more than one test folder uses. Keep it small: what one folder needs goes into its own conftest."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def sample_case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `clue sample` writes, written once: read it only. Its truth is in the sibling `case-truth`."""
    from clue_cli.sample import write_sample

    folder = tmp_path_factory.mktemp("sample") / "case"
    write_sample(folder)
    return folder
