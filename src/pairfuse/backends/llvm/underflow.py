"""What happens to results below the smallest normal number: inside of the loops over pairs they are 0.

In: the builder of a function.  Out: instructions that switch the processor to this, and back to what the caller had.

A kernel that decays fast has many terms between 1e-45 and 1.2e-38: subnormal numbers, which Intel's processors multiply
in microcode. exp(-200 |x - y|^2) of points in the unit cube took 20 times as long as exp(-|x - y|^2): 2.5e8 and 4.9e9
pairs/s in one thread; with the switch both take the same time. Operands that are subnormal, such as data of the user,
keep their value. Processors of AMD lose nothing without it, but have the same results; those of Arm are left alone.
"""

from __future__ import annotations

from .builder import Builder

FLUSH_TO_ZERO = 1 << 15  # of the register MXCSR, which belongs to the thread
STORE, LOAD = "@llvm.x86.sse.stmxcsr", "@llvm.x86.sse.ldmxcsr"


class Underflow:
    """The switch, in a function; `flush` and `restore` may alternate."""

    def __init__(self, b: Builder) -> None:
        self.b = b
        self.known = "sse2" in b.features
        if self.known:
            for name in (STORE, LOAD):
                b.declare(name, f"void {name}(ptr)")
            self.before, self.within = b.let("alloca i32, align 4"), b.let("alloca i32, align 4")
            b.line(f"call void {STORE}(ptr {self.before})")
            mode = b.let(f"load i32, ptr {self.before}, align 4")
            b.line(f"store i32 {b.let(f'or i32 {mode}, {FLUSH_TO_ZERO}')}, ptr {self.within}, align 4")

    def flush(self) -> None:
        """From here on, results that are subnormal are 0."""
        if self.known:
            self.b.line(f"call void {LOAD}(ptr {self.within})")

    def restore(self) -> None:
        """From here on, they are what the caller has them be."""
        if self.known:
            self.b.line(f"call void {LOAD}(ptr {self.before})")
