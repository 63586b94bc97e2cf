"""Every public name of PyKeOps and keopscore, as facts: kinds, signatures, attributes, accepted keywords.

    make keops-names              writes src/pairfuse/dropin/names.json, in PyKeOps' own environment
    python tools/compare_names_with_keops.py OUT.json [--dropin]

It reads whichever packages are installed under these names: PyKeOps, or with `--dropin` Pairfuse's.  Nothing but names
is read: no documentation, no code.  tests/test_keops_names.py reads the drop-in the same way, and compares.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import pkgutil
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = ("pykeops", "keopscore")
OWN = (*PACKAGES, "pairfuse")
# Tests and notebooks that are shipped inside of the packages: nobody's interface.
NO_INTERFACE = {"test", "sandbox", "tutorials", "examples", "benchmarks", "include"}
OPERATORS = {
    *("__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__", "__rtruediv__", "__or__"),
    *("__ror__", "__abs__", "__neg__", "__pow__", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"),
    *("__getitem__", "__matmul__", "__min__", "__max__", "__call__", "__bool__"),
}
PRIVATE = {"_shape", "_dtype"}  # which programs read all the same
# ---------------------------------------------------------------------- modules


def modules() -> Iterator[str]:
    """The names of all modules of the packages; those of the drop-in need not be files."""
    if "pairfuse.dropin" in sys.modules:
        yield from importlib.import_module("pairfuse.dropin.finder").names()
        return
    for package in PACKAGES:
        yield package
        path = importlib.import_module(package).__path__
        for found in pkgutil.walk_packages(path, package + ".", onerror=lambda _: None):
            if not NO_INTERFACE & set(found.name.split(".")):
                yield found.name


def names_of(module: Any) -> dict[str, Any]:
    """What a module has, without what it imported from elsewhere: every name with its facts."""
    found = {}
    for name in dir(module):
        if name.startswith("_") and name != "__version__":
            continue
        value = getattr(module, name)
        home = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
        own = str(home).partition(".")[0] in OWN or type(value).__name__ == "Absent"
        if own or not (isinstance(value, types.ModuleType) or callable(value)):
            found[name] = facts_of(value, module.__name__)
    of_the_engine = module.__name__.startswith("keopscore") and not hasattr(module, "__path__")
    if of_the_engine and "pairfuse.dropin" not in sys.modules:  # what it only imported is left out, too
        found = {name: facts for name, facts in found.items() if not str(facts).startswith("= ")}
    return found


def facts_of(value: Any, module: str) -> Any:
    """The kind of a value; a function as its signature, a class as those of its members, "()" being the constructor.

    What another module of the packages holds is only referred to, "= module.name".
    """
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__}"
    if type(value).__name__ == "Absent":
        return "absent"
    home = getattr(value, "__module__", None)
    if home != module and str(home).partition(".")[0] in PACKAGES and hasattr(value, "__qualname__"):
        return f"= {home}.{value.__qualname__}"
    if module.startswith("keopscore"):  # steps of an engine that is not ours: that they exist is enough
        return "function" if callable(value) else "value"
    if inspect.isclass(value):
        return members_of(value)
    return signature(value) if callable(value) else "value"


def members_of(cls: type) -> dict[str, str]:
    """The public members of a class, those of outside base classes left out."""
    found = {"()": signature(cls.__init__)}
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] not in OWN:
            continue
        for name in vars(base):
            if not name.startswith("_") or name in OPERATORS | PRIVATE:
                held = inspect.getattr_static(cls, name)
                value = held if isinstance(held, property) else getattr(cls, name)
                found[name] = signature(value) if callable(value) and not inspect.isclass(value) else "value"
    return dict(sorted(found.items()))


def signature(function: Any) -> str:
    """The parameters in Python's words, without annotations; defaults that are no plain values as `...`."""
    try:
        given = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):
        return "(*args, **kwargs)"
    kept = [p.replace(annotation=p.empty, default=plain(p.default)) for p in given]
    kept = kept[1:] if kept and kept[0].name in ("self", "cls") else kept
    return str(inspect.Signature(kept)).replace("Ellipsis", "...")


def plain(default: Any) -> Any:
    is_plain = default is inspect.Parameter.empty or default is None or isinstance(default, (bool, int, float, str))
    return default if is_plain else ...


# ---------------------------------------------------------------------- objects


def objects() -> Iterator[tuple[str, Any]]:
    """One object of each sort that programs hold, with NumPy arrays and with tensors."""
    for library in ("numpy", "torch"):
        k = importlib.import_module(f"pykeops.{library}")
        x = np.random.default_rng(0).random((4, 3))
        x = x if library == "numpy" else importlib.import_module("torch").from_numpy(x)
        a, b, one = k.Vi(x), k.Vj(x), k.Vi(x[:, :1])
        kernel = (-((a - b) ** 2).sum(-1)).exp()
        aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"]
        yield f"{library}: variable", a
        yield f"{library}: formula", kernel
        yield f"{library}: symbolic variable", k.Vi(0, 3)
        yield f"{library}: parameter", k.Pm(2.0)
        yield f"{library}: complex formula", a.exp1j() * b
        yield f"{library}: deferred reduction", kernel.sum(1, call=False)
        yield f"{library}: deferred solve", kernel.solve(one, call=False)
        yield f"{library}: Genred", k.Genred("Exp(-SqDist(x,y))*b", aliases, axis=1)
        yield f"{library}: KernelSolve", k.KernelSolve("Exp(-SqDist(x,y))*b", aliases, "b", axis=1)


def attributes_of(value: Any) -> list[str]:
    """The names of the attributes that an object was given when it was made; of an object of Pairfuse all names."""
    own = vars(value) if type(value).__module__.startswith(PACKAGES) else dir(value)
    return sorted(n for n in own if not n.startswith("_") or n in PRIVATE)


# ---------------------------------------------------------------------- keywords

CHOICES = {
    "dtype_acc": ("auto", "float32", "float64"),
    "use_double_acc": (False, True),
    "sum_scheme": ("auto", "direct_sum", "block_sum", "kahan_scheme", "no_scheme"),
    "enable_chunks": (True, False),
    "use_fast_math": (True, False),
    "backend": ("auto", "CPU"),
    "device_id": (-1,),
    "ranges": (None,),
    "out": (None,),
}
ACCURACY = ("dtype_acc", "use_double_acc", "sum_scheme")


def combinations() -> list[dict[str, Any]]:
    """All combinations of the keywords of accuracy, left out or given; the others alone and with one of them."""
    options = [[(), *((name, v) for v in CHOICES[name])] for name in ACCURACY]
    found = [dict(pair for pair in chosen if pair) for chosen in itertools.product(*options)]
    for name in CHOICES.keys() - set(ACCURACY):
        for value in CHOICES[name]:
            found += [{name: value}, {name: value, "sum_scheme": "block_sum"}]
    return sorted(found, key=lambda c: json.dumps(c, sort_keys=True))


def calls() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every reduction and product, as a function of the keywords; all wait for their call, so nothing is compiled."""
    for library in ("numpy", "torch"):
        k = importlib.import_module(f"pykeops.{library}")
        x = np.random.default_rng(0).random((4, 3)).astype("float32")
        x = x if library == "numpy" else importlib.import_module("torch").from_numpy(x)
        kernel, weight, one = (-k.Vi(x).sqdist(k.Vj(x))).exp(), k.Vj(x), k.Vi(x[:, :1])
        later = {"axis": 1, "call": False}
        for name in ("sum", "min", "max", "argmin", "argmax"):
            yield f"{library}: {name}", partial_of(getattr(kernel, name), **later)
            yield f"{library}: {name}_reduction", partial_of(getattr(kernel, f"{name}_reduction"), **later)
        for name in ("min_argmin", "max_argmax", "logsumexp", "__min__", "__max__"):
            yield f"{library}: {name}", partial_of(getattr(kernel, name), **later)
        for name in ("Kmin", "argKmin", "Kmin_argKmin"):
            yield f"{library}: {name}", partial_of(getattr(kernel, name), 2, **later)
            yield f"{library}: {name}_reduction", partial_of(getattr(kernel, f"{name}_reduction"), K=2, **later)
        for name in ("min_argmin_reduction", "max_argmax_reduction", "logsumexp_reduction"):
            yield f"{library}: {name}", partial_of(getattr(kernel, name), **later)
        yield f"{library}: logsumexp of a weight", partial_of(kernel.logsumexp, weight=weight, **later)
        yield f"{library}: sumsoftmaxweight", partial_of(kernel.sumsoftmaxweight, weight, **later)
        yield (
            f"{library}: sumsoftmaxweight_reduction",
            partial_of(kernel.sumsoftmaxweight_reduction, weight=weight, **later),
        )
        yield f"{library}: reduction", partial_of(kernel.reduction, "Sum", **later)
        yield f"{library}: __matmul__", partial_of(kernel.__matmul__, x, call=False)
        yield f"{library}: solve", partial_of(kernel.solve, one, call=False)
        aliases = ["x = Vi(3)", "y = Vj(3)", "b = Vj(1)"]
        for op in ("Sum", "LogSumExp", "Min", "ArgMin", "Min_ArgMin", "Max", "ArgMax", "Max_ArgMax"):
            genred = partial_of(k.Genred, "SqDist(x,y)", aliases[:2], reduction_op=op)
            yield f"{library}: Genred {op}", without_call(genred)
        for op in ("KMin", "ArgKMin", "KMin_ArgKMin"):
            genred = partial_of(k.Genred, "SqDist(x,y)", aliases[:2], reduction_op=op, opt_arg=2)
            yield f"{library}: Genred {op}", without_call(genred)
        weighted = partial_of(k.Genred, "SqDist(x,y)", aliases, reduction_op="SumSoftMaxWeight", formula2="b")
        yield f"{library}: Genred SumSoftMaxWeight", without_call(weighted)
        solver = partial_of(k.KernelSolve, "Exp(-SqDist(x,y))*b", aliases, "b", axis=1)
        yield f"{library}: KernelSolve", without_call(solver)
        for name in ("generic_sum", "generic_logsumexp", "generic_argmin", "generic_argkmin"):
            generic = partial_of(getattr(k, name), "SqDist(x,y)", "a = Vi(1)", "x = Vi(3)", "y = Vj(3)")
            yield f"{library}: {name}", without_call(generic)


def partial_of(function: Callable[..., Any], *args: Any, **given: Any) -> Callable[..., Any]:
    def call(**options: Any) -> Any:
        return function(*args, **{**given, **options})

    return call


def without_call(construct: Callable[..., Any]) -> Callable[..., Any]:
    """The keywords of a call are not those of a constructor."""

    def call(**options: Any) -> Any:
        return construct(**{n: v for n, v in options.items() if n not in ("backend", "device_id", "ranges", "out")})

    return call


def accepted(call: Callable[..., Any]) -> str:
    """For each combination, in their order, 1 where it is accepted and 0 where it is refused."""
    said = ""
    for options in combinations():
        try:
            call(**options)
            said += "1"
        except (ValueError, TypeError):
            said += "0"
    return said


# ---------------------------------------------------------------------- all of it


def collect() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in modules():
        try:
            found[name] = names_of(importlib.import_module(name))
        except Exception as error:  # PyKeOps' modules for GPUs are not imported where there is none
            found[name] = {}
            print(f"{name}: {type(error).__name__}, nothing of it is known", file=sys.stderr)
    return {
        "modules": found,
        "objects": {name: attributes_of(value) for name, value in objects()},
        "keywords": {name: accepted(call) for name, call in calls()},
    }


def main() -> int:
    warnings.simplefilter("ignore")
    if "--dropin" in sys.argv:
        importlib.import_module("pairfuse").install_as_pykeops()
    importlib.import_module("pykeops").set_verbose(False)
    text = json.dumps(collect(), indent=0, sort_keys=True, separators=(",", ":"))
    Path(sys.argv[1]).write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
