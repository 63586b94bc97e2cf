"""Every name of KeOps is on the page "Coming from KeOps", and is here what the page says; and the other way round."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from keops_differences import Facts, differences
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
            value = getattr(value, part, None)
            if value is None or type(value).__name__ == "Absent":  # it can be imported, and is not there
                return False
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


# ---------------------------------------------------------------------- compared by program

ROOT = Path(__file__).resolve().parents[1]
# What differs and is right.
EXPLAINED = {
    "pykeops.torch.cluster.cluster_ranges_centroids": "min_weight=None stands for a number that fits the type",
    "pykeops.torch.cluster.utils.cluster_ranges_centroids": "the same",
}
# Values that KeOps' modules hold by accident: steps of the tests of its installation, an open file, a folder.
ACCIDENTS = {
    *("pykeops.v", "pykeops.torch.torch_version_required"),
    *(f"pykeops.numpy.test_install.{name}" for name in ("expected_res", "formula", "var")),
    *(f"pykeops.torch.test_install.{name}" for name in ("expected_res", "formula", "var")),
}
ENGINE = ("keopscore.", "pykeops.common.keops_io.", "pykeops.common.get_options.", "pykeops.torch.half2_convert.")


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Facts, Facts]:
    """Those of PyKeOps, and those of the drop-in, read in a process of its own."""
    pytest.importorskip("torch")
    out = tmp_path_factory.mktemp("names") / "ours.json"
    command = [sys.executable, str(ROOT / "tools" / "compare_names_with_keops.py"), str(out), "--dropin"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "nothing of it is known" not in done.stderr  # every module can be imported
    keops = (ROOT / "src/pairfuse/dropin/names.json").read_text(encoding="utf-8")
    return json.loads(keops), json.loads(out.read_text(encoding="utf-8"))


def test_the_table_is_that_of_keops(facts: tuple[Facts, Facts]) -> None:
    """A table that lost its contents would make every comparison true."""
    keops, ours = facts
    assert len(keops["modules"]) > 150
    assert {"sum", "solve", "__matmul__"} <= keops["modules"]["pykeops.common.lazy_tensor"]["GenericLazyTensor"].keys()
    assert len(keops["keywords"]) == len(ours["keywords"]) > 80
    broken = json.loads(json.dumps(ours))
    del broken["modules"]["pykeops.numpy.utils"]["np_kernel_sphere"]
    broken["modules"]["pykeops.numpy.lazytensor.LazyTensor"]["LazyTensor"] = "= pykeops.nowhere.LazyTensor"
    broken["keywords"]["numpy: __matmul__"] = "0" * len(ours["keywords"]["numpy: __matmul__"])
    broken["objects"]["torch: deferred solve"].remove("callfun")
    found = {name for name, _ in differences(keops, broken)} - {name for name, _ in differences(keops, ours)}
    assert {
        "pykeops.numpy.utils.np_kernel_sphere",
        "numpy: __matmul__(keywords)",
        "torch: deferred solve: callfun",
    } <= found
    assert "pykeops.numpy.lazytensor.LazyTensor.LazyTensor" in found


def test_no_difference_is_unexplained(facts: tuple[Facts, Facts]) -> None:
    keops, ours = facts
    said_to_be_missing = {name for name, (state, _) in TABLES["Packages"].items() if state == "no"}
    ends = {name.rpartition(".")[2] for name in said_to_be_missing} | {"keops_binder"}
    for name, text in differences(keops, ours):
        if text == "is absent":
            explained = name in ACCIDENTS or name.startswith(ENGINE) or name.rpartition(".")[2] in ends
            assert explained, f"{name} is not in Pairfuse, and the page does not say so"
        else:
            assert name in EXPLAINED, f"{name} {text}"


def test_the_language_of_formulas_is_there_as_functions(facts: tuple[Facts, Facts]) -> None:
    """What `keopscore.formulas` lacks are its classes that write code."""
    keops, ours = facts
    missing = {n for n, f in ours["modules"]["keopscore.formulas"].items() if f == "absent"}
    assert missing < set(keops["modules"]["keopscore.formulas"])
    assert not missing & (set(FORMS) | {alias for op in OPS.values() for alias in op.aliases})
