"""Fixtures that more than one test folder uses. Keep it small: what one folder needs goes into its own conftest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.object_store import ObjectStore


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


@pytest.fixture(scope="session")
def object_server() -> Iterator[str]:
    """The address of a local server that speaks S3."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    from tests.object_store import served

    with served() as endpoint:
        yield endpoint


@pytest.fixture
def object_store(object_server: str, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """An S3 server without any bucket; the environment leads s3fs to it."""
    from tests.object_store import fresh

    return fresh(object_server, monkeypatch)
