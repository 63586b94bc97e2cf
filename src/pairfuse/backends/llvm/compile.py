"""From LLVM IR text to a callable kernel, in memory or from object code kept on disk.

llvmlite's MCJIT engine compiles with the order of instructions that the emitter has chosen: no IR passes are run.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from ...errors import CompileError, message
from ...lower.schedule import Target
from .target import _binding, machine


@dataclass(frozen=True, slots=True)
class Binary:
    """Compiled code: the two functions, and the engine that owns their memory.

    The memory is freed with the last reference to this object: whoever runs the functions holds it meanwhile.
    """

    kernel: Any
    finish: Any
    engine: Any


# Some passes of LLVM take time that grows as the square of the length of a block. In lines, up to this length they end
# in a few seconds; without them, which makes code that takes up to twice as long, the time is linear.
LONGEST_OPTIMISED = 10_000

KERNEL_TYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
FINISH_TYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int64] * 5)


def compile_text(source: str, target: Target) -> bytes:
    """Object code of a module."""
    llvm = _binding()
    try:
        # a context of its own: what a module names in LLVM's global one stays there for ever
        module = llvm.parse_assembly(source, llvm.create_context())
        module.verify()
        return machine(target, plain=source.count("\n") > LONGEST_OPTIMISED).emit_object(module)
    except RuntimeError as error:
        text = message(
            "the generated kernel was refused by LLVM; this is a defect of Pairfuse, please report it.", str(error)
        )
        raise CompileError(text) from error


def load(code: bytes, target: Target) -> Binary:
    """Make object code callable."""
    llvm = _binding()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly("", llvm.create_context()), machine(target))
    try:
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
    except RuntimeError as error:
        raise CompileError(message("object code could not be loaded.", str(error))) from error
    addresses = [engine.get_function_address(name) for name in ("kernel", "finish")]
    if not all(addresses):
        raise CompileError("object code does not hold the functions of a kernel.")
    return Binary(KERNEL_TYPE(addresses[0]), FINISH_TYPE(addresses[1]), engine)


def assembly(source: str, target: Target) -> str:
    """The assembly text, for people."""
    llvm = _binding()
    return machine(target).emit_assembly(llvm.parse_assembly(source, llvm.create_context()))
