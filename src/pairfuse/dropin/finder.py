"""The modules of the packages `pykeops` and `keopscore`: files of this folder, and modules made of a list of names.

In: the name of a module.  Out: the module.  A module with a file is that file.  One that only KeOps has, such as
`keopscore.formulas.maths.Exp`, hands on what a package above it offers under the same name; what nobody offers is
`Absent`.  `names.json` lists what KeOps has (tools/compare_names_with_keops.py writes it).
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

from .absent import Absent

PACKAGES = ("keopscore", "pykeops")
FOLDER = Path(__file__).parent


@lru_cache
def names() -> dict[str, dict[str, Any]]:
    """What KeOps has: by module, every name with its facts."""
    return json.loads((FOLDER / "names.json").read_text(encoding="utf-8"))["modules"]


@lru_cache
def of_the_engine() -> dict[str, Any]:
    """All names of keopscore's modules, which import them from each other."""
    found: dict[str, Any] = {}
    for module, held in names().items():
        if module.startswith("keopscore."):
            found |= {name: facts for name, facts in held.items() if not facts.startswith("module ")}
    return found


@lru_cache
def packages() -> frozenset[str]:
    """The modules that have modules below them."""
    return frozenset(name.rpartition(".")[0] for name in names())


class Module(ModuleType):
    """A module of the drop-in: names that it does not hold are looked for above, and else absent."""

    def __getattr__(self, name: str) -> Any:
        place = self.__name__
        known = names().get(place, {}).get(name)
        if known is None and place.startswith("keopscore."):  # what a module of the engine only imports
            known = of_the_engine().get(name)
        if known is None or name.startswith("__"):
            raise AttributeError(f"module {place!r} of Pairfuse's drop-in has no attribute {name!r}; KeOps has none.")
        if str(known).startswith("module "):
            return importlib.import_module(known.removeprefix("module "))
        for module in self._places(str(known)):
            held = _held(module, name)
            if held is not None:
                return held
        return Absent(f"{place}.{name}")

    def _places(self, known: str) -> Iterator[ModuleType]:
        """Where to look for a name: in the module that holds it in KeOps, then in the packages above."""
        home = known.removeprefix("= ").rpartition(".")[0]
        if known.startswith("= ") and home in names():
            yield importlib.import_module(home)
        above = self.__name__.rpartition(".")[0]
        while above:
            yield importlib.import_module(above)
            above = above.rpartition(".")[0]

    def __setattr__(self, name: str, value: Any) -> None:
        """Importing `maths.Exp` binds the module to its package, where KeOps keeps the function of this name."""
        known = names().get(self.__name__, {}).get(name)
        if not isinstance(value, ModuleType) or known is None or str(known).startswith("module "):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *names().get(self.__name__, {})})


def _held(module: ModuleType, name: str) -> Any:
    """What the file of a module offers under this name, not what it finds elsewhere; None: nothing."""
    found = vars(module).get(name)
    if found is None and "__getattr__" in vars(module):
        try:
            found = vars(module)["__getattr__"](name)
        except AttributeError:
            return None
    return None if isinstance(found, (Absent, ModuleType)) else found


class File(SourceFileLoader):
    """A module with a file."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return Module(spec.name)


class Listed(Loader):
    """A module that is only a list of names."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        made = Module(spec.name, f"`{spec.name}`: the names of KeOps; those without a meaning here say so when used.")
        made.__dict__["__all__"] = sorted(names()[spec.name])
        return made

    def exec_module(self, module: ModuleType) -> None:
        pass


class Finder(MetaPathFinder):
    """Finds the modules of the two packages."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in PACKAGES:
            return None
        place = FOLDER.joinpath(*fullname.split("."))
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        below = [str(place)] if place.is_dir() or fullname in packages() else None
        if file.is_file():
            return spec_from_file_location(
                fullname, file, loader=File(fullname, str(file)), submodule_search_locations=below
            )
        if fullname not in names():
            return None
        spec = spec_from_loader(fullname, Listed(), is_package=below is not None)
        assert spec is not None
        return spec
