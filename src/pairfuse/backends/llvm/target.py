"""The processor: which vectors it has, and LLVM's machine for it."""

from __future__ import annotations

import functools
from typing import Any

from ... import forks
from ...config import config
from ...lower.schedule import Target

# Features of the host that a narrower set of instructions does without, by the beginning of their names.
LEFT_OUT = {
    "avx2": ("avx512", "avx10", "avxvnni", "avxifma"),
    "generic": ("avx", "fma", "f16c", "xop", "vaes", "vpcl", "gfni", "sm3", "sm4", "sha512"),
}


@functools.cache
def _binding() -> Any:
    """llvmlite, initialised once."""
    with forks.LOADING:
        import llvmlite.binding as llvm

        # Every call of LLVM is made under this lock; a child forked during a call would wait for it for ever.
        lock = getattr(llvm.ffi.lib, "_lock", None)
        if lock is not None:
            forks.held(lock)
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        return llvm


def version() -> str:
    """The version of llvmlite."""
    import llvmlite

    return llvmlite.__version__


@functools.lru_cache(maxsize=8)
def host_target(instructions: str = "") -> Target:
    """The target of this machine, or a narrower one when the setting `instructions` asks for it."""
    instructions = instructions or config.instructions
    llvm = _binding()
    cpu = llvm.get_host_cpu_name()
    features = dict(llvm.get_host_cpu_features())
    left_out = LEFT_OUT.get(instructions, ())
    features = {k: v and not k.startswith(left_out) for k, v in features.items()} if left_out else features
    flags = frozenset(k for k, v in features.items() if v)
    text = ",".join(("+" if v else "-") + k for k, v in sorted(features.items()))
    if "avx512f" in flags and "avx512vl" in flags and "avx512dq" in flags:
        return Target("avx512", cpu, text, flags, 64, 32)
    if "avx2" in flags and "fma" in flags:
        return Target("avx2", cpu, text, flags, 32, 16)
    wide = 32 if "neon" in flags else 16
    return Target("generic", cpu, text, flags, 16, wide)


def machine(target: Target, plain: bool = False) -> Any:
    """A new LLVM target machine (each compiler consumes its own); `plain`: one that takes no time to optimise."""
    llvm = _binding()
    triple = llvm.Target.from_default_triple()
    return triple.create_target_machine(cpu=target.cpu, features=target.features, opt=0 if plain else 3, jit=True)
