"""Runs PTX that tests write by hand.

In: the instructions of a function, and arrays.  Out: the arrays are changed; the counts of the instructions.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from .machine import Program, arguments, launch
from .memory import HostMemory
from .parse import parse

HEAD = """\
.version 8.8
.target sm_80
.address_size 64
.extern .shared .align 16 .b8 room[];
{functions}
.visible .entry test(
{parameters}
)
.reqntid {threads}
{{
.reg .pred %p<9>;
.reg .b16 %h<40>;
.reg .b32 %r<40>;
.reg .b64 %d<40>;
mov.u32 %r0, %tid.x;
{addresses}
"""


def source(body: str, sizes: list[int], threads: int, functions: str = "") -> str:
    """A function of pointers to arrays of elements of these bytes; %d0, %d1 ...: where the thread's own ones are."""
    parameters = ",\n".join(f".param .u64 test_param_{k}" for k in range(len(sizes)))
    addresses = "\n".join(
        f"ld.param.b64 %d{k}, [test_param_{k}];\nmad.wide.u32 %d{k}, %r0, {n}, %d{k};" for k, n in enumerate(sizes)
    )
    head = HEAD.format(functions=functions, parameters=parameters, threads=threads, addresses=addresses)
    return f"{head}\n{body}\nret;\n}}\n"


def execute(
    body: str, *arrays: np.ndarray, threads: int = 32, grid: int = 1, shared: int = 0, functions: str = ""
) -> Counter[str]:
    """Run on these arrays, which the function may read and write; the counts of its instructions."""
    text = source(body, [a.itemsize for a in arrays], threads, functions)
    module = parse(text)
    program = Program(module, module.functions["test"], shared)
    places = [a.ctypes.data for a in arrays]
    memory = HostMemory([(p, p + a.nbytes) for p, a in zip(places, arrays, strict=True)])
    return launch(program, (grid, 1, 1), threads, arguments(program.function, places), memory)
