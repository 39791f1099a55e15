"""Import one module of a package without running the package's `__init__`."""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


def submodule(name: str) -> ModuleType:
    """The module, as an import of it would find it; its packages are not imported unless they are already.

    segment_anything's `__init__` imports torchvision and what draws masks, a second of processor time for an encoder
    that needs torch alone. While the module is imported, empty packages stand in for its own; a later import of the
    package runs its `__init__` and finds this same module, by `import` and `from`, though not as an attribute.

    Args:
        name: dotted; the module and what it imports of its own packages import each other by the modules' names.

    Raises:
        ImportError: as of an ordinary import, which is done if this one fails.
    """
    parents = [name.rsplit(".", count)[0] for count in range(name.count("."), 0, -1)]
    if name in sys.modules or parents[0] in sys.modules:
        return importlib.import_module(name)
    before = set(sys.modules)
    path: list[str] | None = None
    try:
        for parent in parents:
            spec = PathFinder.find_spec(parent, path)
            if spec is None or spec.submodule_search_locations is None:
                raise ImportError(f"no package {parent}", name=parent)
            path = list(spec.submodule_search_locations)
            sys.modules[parent] = _empty(parent, path)
        found = importlib.import_module(name)
    except ImportError:
        for imported in set(sys.modules) - before:
            if imported.startswith(f"{parents[0]}."):
                del sys.modules[imported]
        found = None
    finally:
        for parent in parents:
            sys.modules.pop(parent, None)
    return importlib.import_module(name) if found is None else found


def _empty(name: str, path: list[str]) -> ModuleType:
    package = ModuleType(name)
    package.__path__ = path
    package.__spec__ = ModuleSpec(name, None, is_package=True)
    package.__spec__.submodule_search_locations = path
    return package
