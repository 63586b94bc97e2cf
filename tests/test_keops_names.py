"""Every name of KeOps is on the page "Coming from KeOps", and is here what the page says; and the other way round."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest
from keops_page import KEOPS, NAMES, OPERATORS, STATES, TABLES, extras, names_of_packages

import pairfuse.numpy
import pairfuse.torch
from pairfuse.frontend.options import KNOWN
from pairfuse.frontend.strings.language import FORMS
from pairfuse.ir.ops import OPS
from pairfuse.ir.reductions import REDUCTIONS
from pairfuse.numpy import LazyTensor, Vi, Vj


def test_the_page_has_every_name() -> None:
    expected = {section: set(names.split()) for section, names in KEOPS.items()}
    expected["Operators and methods"] |= set(OPERATORS)
    expected["Packages"] = names_of_packages()
    assert {section: set(rows) for section, rows in TABLES.items()} == expected


def test_every_name_has_a_state() -> None:
    for section, name in NAMES:
        state, note = TABLES[section][name]
        assert state in STATES, (section, name, state)
        assert note or state in ("same", "more"), f"{name}: {state} needs a reason"


# ---------------------------------------------------------------------- the page and the library

K0 = (Vi(0, 3) - Vj(1, 3)).sqnorm2()
HEADS = {f"{alias}_Reduction" for r in REDUCTIONS.values() for alias in r.aliases} | {
    "Zero_Reduction", "Max_SumShiftExp_Reduction", "Max_SumShiftExpWeight_Reduction",
}  # fmt: skip
SUM_SHIFT = {"Max_SumShiftExp", "Max_SumShiftExpWeight"}


def is_there(section: str, name: str) -> bool:
    """Does the library have the name?"""
    if section.startswith("`pairfuse"):
        return all(hasattr(face, name) for face in (pairfuse.numpy, pairfuse.torch))
    if section.startswith("Clusters"):
        faces = [importlib.import_module(f"pairfuse.{library}.cluster") for library in ("numpy", "torch")]
        return all(hasattr(face, name) for face in faces)
    if section == "Attributes of a LazyTensor":
        return hasattr(LazyTensor, name) or hasattr(type(K0.sum(axis=1)), name)
    if section in ("Operators and methods", "Reductions"):
        return name in OPERATORS or hasattr(LazyTensor, name)
    if section == "Keywords of reductions":
        return name in KNOWN
    if section.startswith("Names of reductions"):
        return name in SUM_SHIFT or any(name in r.aliases for r in REDUCTIONS.values())
    assert section == "Names of formulas", section
    return name in ("Var", *HEADS, *FORMS) or any(name in op.aliases for op in OPS.values())


@pytest.mark.parametrize(("section", "name"), [n for n in NAMES if n[0] != "Packages"], ids=lambda v: v.split()[0])
def test_the_page_is_right_about(section: str, name: str) -> None:
    state, _ = TABLES[section][name]
    if state == "no":
        assert not is_there(section, name), f"{name} is there: docs/coming-from-keops.md says {state!r}"
    else:
        assert is_there(section, name)


def test_the_page_is_right_about_packages() -> None:
    """In a process in which `pykeops` is ours."""
    code = """
import importlib, json, sys, pairfuse.dropin
pairfuse.dropin.install()

def is_there(name):
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True

print(json.dumps({name: is_there(name) for name in json.loads(sys.argv[1])}))
"""
    names = list(TABLES["Packages"])
    done = subprocess.run([sys.executable, "-c", code, json.dumps(names)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {name: TABLES["Packages"][name][0] != "no" for name in names}


def test_every_name_of_the_library_is_on_the_page() -> None:
    """What KeOps has is in the tables, the rest in the section of names that KeOps does not have."""
    attributes = {n for n in dir(LazyTensor) if not n.startswith("_")}
    known = {n for s in ("Attributes of a LazyTensor", "Operators and methods", "Reductions") for n in TABLES[s]}
    assert attributes - known == extras("Of LazyTensors")
    faces = {*pairfuse.numpy.__all__, *pairfuse.torch.__all__}
    assert faces - set(TABLES["`pairfuse.numpy` and `pairfuse.torch`"]) == extras(
        "Of `pairfuse.numpy` and `pairfuse.torch`"
    )
    aliases = {alias for op in OPS.values() for alias in op.aliases} | set(FORMS)
    assert aliases - set(TABLES["Names of formulas"]) == extras("Names of formulas")
    reductions = {name for r in REDUCTIONS.values() for name in (*r.aliases, r.name)}
    assert reductions - set(TABLES["Names of reductions, for `Genred` and `reduction`"]) == extras(
        "Names of reductions"
    )
    assert set(KNOWN) - set(TABLES["Keywords of reductions"]) == extras("Keywords of reductions")
