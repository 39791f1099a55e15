"""Streams that cannot be written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pytest


@contextmanager
def unwritable(full_disk: bool) -> Iterator[TextIO]:
    """A stream to a full disk, or else to a pipe that nobody reads."""
    if not full_disk:
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "w") as stream:
            yield stream
    elif not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    else:
        with Path("/dev/full").open("w") as stream:
            yield stream
