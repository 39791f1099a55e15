"""What several folders of tests need."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny, untrained model: read it only."""
    from tests.tiny_model import write_tiny_model  # seconds to import

    return write_tiny_model(tmp_path_factory.mktemp("model"))
