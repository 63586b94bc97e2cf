"""Writes the functions that are called into the place of their calls.

In: a module, and an entry function.  Out: the same function without calls.  PTX hands arguments over in variables of
the space "param", which are local memory here; what the called function declares gets names of its own for each call.
"""

from __future__ import annotations

import re
from dataclasses import replace

from .parse import Function, Instruction, Module, PtxError

NAME = re.compile(r"%?[A-Za-z_$][\w$]*")


def inlined(module: Module, function: Function) -> Function:
    """The function without calls."""
    if not any(i.opcode[0] == "call" for i in function.code):
        return function
    found = Function(function.name, function.parameters, function.results, dict(function.registers))
    found.variables = dict(function.variables)
    places: list[int] = []
    for number, instruction in enumerate(function.code):
        places.append(len(found.code))
        if instruction.opcode[0] == "call":
            _call(module, found, instruction, f"$${number}")
        else:
            found.code.append(instruction)
    places.append(len(found.code))
    found.labels |= {name: places[at] for name, at in function.labels.items()}
    return found


def _call(module: Module, into: Function, instruction: Instruction, suffix: str) -> None:
    """Write the called function at the end of the code."""
    if instruction.guard:
        raise PtxError(f"{instruction}: a call with a predicate is not known")
    *results, name, arguments = instruction.operands
    called = inlined(module, module.functions[name])
    names = {old: old + suffix for old in (*called.registers, *called.labels, *called.variables)}
    names |= dict(zip(called.results, _names(results), strict=True))
    names |= dict(zip(called.parameters, _names([arguments]), strict=True))
    into.registers |= {names[old]: kind for old, kind in called.registers.items()}
    into.variables |= {names[v.name]: replace(v, name=names[v.name]) for v in called.variables.values()}
    start = len(into.code)
    end = f"end{suffix}"
    for i in called.code:
        renamed = [NAME.sub(lambda m: names.get(m[0], m[0]), o) for o in (*i.operands, i.guard)]
        if i.opcode[0] == "ret":
            i = replace(i, opcode=("bra",), operands=(end,), guard=renamed[-1])
        else:
            i = replace(i, operands=tuple(renamed[:-1]), guard=renamed[-1])
        into.code.append(i)
    into.labels |= {names[old]: start + at for old, at in called.labels.items()}
    into.labels[end] = len(into.code)


def _names(lists: list[str]) -> list[str]:
    return [n.strip() for text in lists for n in text.strip("() ").split(",") if n.strip()]
