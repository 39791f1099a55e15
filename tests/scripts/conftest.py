"""Scripts as modules."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import torch

SCRIPTS = Path(__file__).parents[2] / "scripts"


@contextmanager
def modules_of_scripts(*names: str) -> Iterator[SimpleNamespace]:
    """Some of the scripts as modules; what importing them does to the process is undone."""
    before, environment, threads = set(sys.modules), dict(os.environ), torch.get_num_threads()
    sys.path.insert(0, str(SCRIPTS))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        sys.path.remove(str(SCRIPTS))
        for name in set(names) & (set(sys.modules) - before):
            del sys.modules[name]
        os.environ.clear()
        os.environ.update(environment)
        torch.set_num_threads(threads)
