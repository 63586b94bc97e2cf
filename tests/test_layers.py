"""The architecture, kept by reading the imports of every file of the package.

Layers only import downwards, backends do not know each other, and no import hides inside a function but those of heavy
third-party packages, which are loaded where they are first used.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pairfuse import errors

PACKAGE = Path(errors.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# From the bottom to the top; the longest matching prefix of a module's name decides.
LAYERS = {
    "pairfuse.version": 0,
    "pairfuse.errors": 0,
    "pairfuse.config": 0,
    "pairfuse.dtypes": 0,
    "pairfuse.forks": 0,
    "pairfuse.ir": 1,
    "pairfuse.transform": 2,
    "pairfuse.lower": 3,
    "pairfuse.backends": 4,
    "pairfuse.runtime": 5,
    "pairfuse.frontend": 6,
    "pairfuse.numpy": 6,
    "pairfuse.torch": 6,
    "pairfuse": 6,  # the face of the package itself
    "pairfuse.info": 7,
    "pairfuse.catalogue": 7,
    "pairfuse.demo": 7,
    "pairfuse.dropin": 7,
    "pairfuse.__main__": 7,
}
LOADED_WHERE_USED = {"torch", "llvmlite", "triton", "sklearn", "matplotlib", "PIL", "scipy", "dask"}


def module_name(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(module: str) -> int:
    while module not in LAYERS:
        module = module.rpartition(".")[0]
    return LAYERS[module]


def imports(file: Path) -> Iterator[tuple[str, ast.stmt]]:
    """The absolute name of every module that a file imports, with the statement."""
    package = module_name(file).split(".")
    if file.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) + 1 - node.level], node.module or ""]).strip(".")
            origin = base if node.level else node.module or ""
            for alias in node.names:  # `from package import module` imports the module
                inner = f"{origin}.{alias.name}"
                yield (inner if is_module(inner) else origin), node


def is_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def within_functions(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """The import statements inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for inner in ast.walk(node):
                if isinstance(inner, (ast.Import, ast.ImportFrom)):
                    yield inner


def backend(module: str) -> str | None:
    """The backend that a module belongs to, if any; `base` is common to all."""
    parts = module.split(".")
    return parts[2] if parts[:2] == ["pairfuse", "backends"] and len(parts) > 2 and parts[2] != "base" else None


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_imports_go_down(file: Path) -> None:
    name = module_name(file)
    for imported, node in imports(file):
        if imported.partition(".")[0] != "pairfuse":
            continue
        assert layer(imported) <= layer(name), f"{file}:{node.lineno}: {name} imports {imported}, a layer above it"
        if backend(name) and backend(imported):
            assert backend(name) == backend(imported), f"{file}:{node.lineno}: {name} imports its sibling {imported}"


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_no_import_hides_in_a_function(file: Path) -> None:
    for node in within_functions(ast.parse(file.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or "."]
        for name in names:
            assert name.partition(".")[0] in LOADED_WHERE_USED, f"{file}:{node.lineno}: import {name} in a function"


@pytest.mark.parametrize("module", ["pairfuse", "pairfuse.__main__", "pairfuse.numpy"])
def test_import_is_light(module: str) -> None:
    """Importing loads no framework and no compiler: seen from a fresh process."""
    if module == "pairfuse.numpy" and not is_module(module):
        pytest.skip("the NumPy face is not there yet")
    heavy = ["torch", "llvmlite", "triton", "sklearn", "scipy", "matplotlib"]
    code = f"import json, sys, {module}; print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout) == []


def test_the_reader_of_imports_sees_them() -> None:
    """The helpers above on this very file and on a made-up one: a test that reads nothing would always pass."""
    tree = ast.parse("def f():\n    import torch\n    from pairfuse.ir import ops\nimport json\n")
    assert [node.lineno for node in within_functions(tree)] == [2, 3]
    assert len(FILES) > 10
    assert any(name.startswith("pairfuse.ir") for file in FILES for name, _ in imports(file))
    assert layer("pairfuse.backends.llvm.builder") == 4
    assert backend("pairfuse.backends.llvm.builder") == "llvm"
    assert backend("pairfuse.backends.base") is None
