"""PyKeOps' names for Pairfuse: what the packages `pykeops` and `keopscore` hold, and how they take their places.

In: nothing.  Out: `install`, after which `import pykeops` and `import keopscore` give the packages of this folder.  The
small distribution in the repository's folder `dropin/` calls it when its own `pykeops` is first imported; programs
that have the real PyKeOps installed call `pairfuse.install_as_pykeops()`.

The modules of the two packages only hand on names of Pairfuse, and say of the few that have no meaning here why.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

PACKAGES = ("keopscore", "pykeops")


def install() -> None:
    """Let `pykeops` and `keopscore` be ours from now on, in this process.

    Modules of other packages of these names that were imported before are forgotten: who holds one keeps it, and later
    imports give ours.  Calling it again starts afresh.
    """
    for name in PACKAGES:
        for known in [n for n in sys.modules if n == name or n.startswith(name + ".")]:
            del sys.modules[known]
    for name in PACKAGES:
        _load(name, Path(__file__).parent / name)


def _load(name: str, folder: Path) -> None:
    """Import the package in this folder under this name; its modules are found beside it."""
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
