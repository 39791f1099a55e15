"""What a text may say does not change with new weights: the card is that of the made records."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clue_cli.explaining.made_records import with_card


@pytest.fixture(autouse=True)
def _card() -> Iterator[None]:
    with with_card():
        yield
