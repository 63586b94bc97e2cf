"""PyKeOps' names for Pairfuse: what the packages `pykeops` and `keopscore` hold, and how they take their places.

In: nothing.  Out: `install`, after which `import pykeops` and `import keopscore` give the packages of this folder.  The
small distribution in the repository's folder `dropin/` calls it when its own `pykeops` is first imported; programs
that have the real PyKeOps installed call `pairfuse.install_as_pykeops()`.

The modules of the two packages hand on names of Pairfuse (finder.py finds them). Where programs written for KeOps rely
on another behaviour than that of `pairfuse.numpy` and `pairfuse.torch`, there are subclasses here: lazytensor.py,
deferred.py, genred.py. Names that have no meaning here can be imported, and say why when they are used (absent.py).
"""

from __future__ import annotations

import importlib
import sys

from .finder import PACKAGES, Finder


def install() -> None:
    """Let `pykeops` and `keopscore` be ours from now on, in this process.

    Modules of other packages of these names that were imported before are forgotten: who holds one keeps it, and later
    imports give ours.  Calling it again starts afresh.
    """
    for name in PACKAGES:
        for known in [n for n in sys.modules if n == name or n.startswith(name + ".")]:
            del sys.modules[known]
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())
    for name in PACKAGES:
        importlib.import_module(name)
