"""What the vector functions share: constants of an element type, polynomials, and a few x86 instructions.

In: the Builder and Values.  Out: Values.  Nothing here knows a particular mathematical function.

The x86 instructions that LLVM has no portable name for (vscalef, vgetexp, vgetmant, vrange, vrsqrt14, table look-ups
within registers) are emitted on pieces of the width of a register, so that any number of lanes works; `register_lanes`
says 0 where the machine or the number of lanes cannot use them, and the caller takes its portable path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .builder import BITS, Builder, Value, float_literal


@dataclass(frozen=True, slots=True)
class Format:
    """The numbers that describe an IEEE 754 binary format."""

    elem: str
    int_elem: str
    bits: int  # all bits
    fraction: int  # bits of the fraction field
    bias: int

    @property
    def one(self) -> int:
        """The bits of 1.0."""
        return self.bias << self.fraction

    @property
    def infinity(self) -> int:
        return (2 * self.bias + 1) << self.fraction

    @property
    def sign(self) -> int:
        """The sign bit as a signed integer."""
        return -(1 << (self.bits - 1))

    @property
    def smallest_normal(self) -> float:
        return 2.0 ** (1 - self.bias)

    @property
    def shifter(self) -> float:
        """1.5 * 2^fraction: x + shifter - shifter rounds a small x to an integer, found in the sum's low bits."""
        return 1.5 * 2.0**self.fraction


FORMATS = {
    "float": Format("float", "i32", 32, 23, 127),
    "double": Format("double", "i64", 64, 52, 1023),
}

# ------------------------------------------------------------------ portable pieces


def constant(b: Builder, x: Value, value: float) -> Value:
    """A constant of x's element type."""
    return b.const(x.elem, value)


def bits_of(b: Builder, x: Value) -> Value:
    return b.bitcast(x, FORMATS[x.elem].int_elem)


def from_bits(b: Builder, x: Value) -> Value:
    return b.bitcast(x, "float" if x.elem == "i32" else "double")


def bits_of_constant(elem: str, value: float) -> int:
    """The bits of a positive normal constant."""
    f = FORMATS[elem]
    m, e = math.frexp(value)
    return ((e - 1 + f.bias) << f.fraction) + round((2 * m - 1) * 2.0**f.fraction)


def float_of_bits(elem: str, bits: int) -> float:
    """The positive normal constant with these bits."""
    f = FORMATS[elem]
    return math.ldexp(1.0 + (bits & (1 << f.fraction) - 1) / 2.0**f.fraction, (bits >> f.fraction) - f.bias)


def not_positive_normal(b: Builder, x: Value) -> Value:
    """Zeros, subnormals, negative numbers, infinities and NaNs, by one comparison of the bits."""
    f = FORMATS[x.elem]
    first = 1 << f.fraction  # the bits of the smallest normal number
    return b.icmp("uge", b.sub(bits_of(b, x), b.const(f.int_elem, first)), b.const(f.int_elem, f.infinity - first))


def horner(b: Builder, x: Value, coefficients: Sequence[float]) -> Value:
    """c0 + x (c1 + x (c2 + ...)): the fewest instructions; in line, the replicas of the tile fill its latency."""
    acc = constant(b, x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        acc = b.fma(acc, x, constant(b, x, c))
    return acc


def horner_pairs(b: Builder, x: Value, coefficients: Sequence[float]) -> Value:
    """The same as E(x^2) + x O(x^2): one instruction more and half the latency, for long polynomials out of line."""
    square = b.fmul(x, x)
    even, odd = (horner(b, square, coefficients[k::2]) for k in (0, 1))
    return b.fma(odd, x, even)


def two_sum(b: Builder, high: Value, low: Value) -> tuple[Value, Value]:
    """high + low as a rounded sum and its error, |high| >= |low| or high = 0 (T. J. Dekker's Fast2Sum, 1971)."""
    total = b.fadd(high, low)
    return total, b.fadd(b.fsub(high, total), low)


# ------------------------------------------------------------------ x86 registers


SUFFIX = {"float": "ps", "double": "pd"}


def register_lanes(b: Builder, elem: str) -> int:
    """Lanes of one AVX-512 register piece for `elem`, or 0 where the AVX-512 instructions cannot be used."""
    if "avx512f" not in b.features or "avx512dq" not in b.features:
        return 0
    bits = BITS[elem] * b.lanes
    if bits % 512 == 0:
        return 512 // BITS[elem]
    if bits % 256 == 0 and "avx512vl" in b.features:
        return 256 // BITS[elem]
    return 0


def by_pieces(b: Builder, lanes: int, elem: str, emit: Callable[..., str], *operands: Value) -> Value:
    """Apply `emit(*names) -> name`, written for vectors of `lanes` lanes, to operands of b.lanes lanes."""
    if lanes == b.lanes:
        return b.each(elem, emit, *operands)
    count = b.lanes // lanes

    def whole(*names: str) -> str:
        parts: list[str] = []
        for k in range(count):
            index = ", ".join(f"i32 {k * lanes + i}" for i in range(lanes))
            pieces: list[str] = []
            for value, name in zip(operands, names, strict=True):
                ty = b.vec(value.elem)
                pieces.append(b.let(f"shufflevector {ty} {name}, {ty} poison, <{lanes} x i32> <{index}>"))
            parts.append(emit(*pieces))
        width = lanes
        while len(parts) > 1:
            index = ", ".join(f"i32 {i}" for i in range(2 * width))
            ty = f"<{width} x {elem}>"
            parts = [
                b.let(f"shufflevector {ty} {lo}, {ty} {hi}, <{2 * width} x i32> <{index}>")
                for lo, hi in zip(parts[::2], parts[1::2], strict=True)
            ]
            width *= 2
        return parts[0]

    return b.each(elem, whole, *operands)


# Instructions whose intrinsic takes no rounding mode, and is spelled without ".mask".
UNMASKED_NAMES = {"rsqrt14"}


def avx512(b: Builder, operation: str, *operands: Value, immediate: int | None = None) -> Value:
    """llvm.x86.avx512.mask.<operation>, unmasked, with the current rounding mode."""
    elem = operands[0].elem
    lanes = register_lanes(b, elem)
    width = lanes * BITS[elem]
    ty = f"<{lanes} x {elem}>"
    mask = f"i{max(8, lanes)}"
    plain = operation in UNMASKED_NAMES
    full = f"@llvm.x86.avx512.{'' if plain else 'mask.'}{operation}.{SUFFIX[elem]}.{width}"
    types = [ty] * len(operands) + ([] if immediate is None else ["i32"]) + [ty, mask]
    tail = ([] if immediate is None else [f"i32 {immediate}"]) + [f"{ty} zeroinitializer", f"{mask} -1"]
    if width == 512 and not plain:
        types.append("i32")
        tail.append("i32 4")
    b.declare(full, f"{ty} {full}({', '.join(types)})")

    def emit(*names: str) -> str:
        return b.let(f"call {ty} {full}({', '.join([f'{ty} {n}' for n in names] + tail)})")

    return by_pieces(b, lanes, elem, emit, *operands)


def is_class(b: Builder, x: Value, classes: int) -> Value:
    """vfpclass: is x of one of the classes (1 quiet NaN, 2 +0, 4 -0, 8 +inf, 16 -inf, 32 subnormal, 64 negative)?"""
    lanes = register_lanes(b, x.elem)
    ty, width = f"<{lanes} x {x.elem}>", lanes * BITS[x.elem]
    full = f"@llvm.x86.avx512.fpclass.{SUFFIX[x.elem]}.{width}"
    b.declare(full, f"<{lanes} x i1> {full}({ty}, i32)")
    return by_pieces(b, lanes, "i1", lambda n: b.let(f"call <{lanes} x i1> {full}({ty} {n}, i32 {classes})"), x)


def table_lanes(b: Builder, elem: str, entries: int) -> int:
    """Lanes of one piece of `table_lookup` with this many entries, or 0 where no instruction does it."""
    lanes = register_lanes(b, elem)
    if lanes and entries in (lanes, 2 * lanes):
        return lanes
    if elem == "float" and entries == 8 and b.lanes % 8 == 0 and "avx2" in b.features:
        return 8
    return 0


def table_lookup(b: Builder, index: Value, table: Sequence[float]) -> Value:
    """table[index mod len(table)] by one permutation of one or two registers; see `table_lanes`."""
    elem = "float" if index.elem == "i32" else "double"
    lanes = table_lanes(b, elem, len(table))
    assert lanes
    ty, int_ty = f"<{lanes} x {elem}>", f"<{lanes} x {index.elem}>"
    width = lanes * BITS[elem]

    def literal(part: Sequence[float]) -> str:
        return "<" + ", ".join(f"{elem} {float_literal(elem, v)}" for v in part) + ">"

    if len(table) == 2 * lanes:
        full = f"@llvm.x86.avx512.vpermi2var.{SUFFIX[elem]}.{width}"
        b.declare(full, f"{ty} {full}({ty}, {int_ty}, {ty})")
        low, high = literal(table[:lanes]), literal(table[lanes:])
        return by_pieces(
            b, lanes, elem, lambda n: b.let(f"call {ty} {full}({ty} {low}, {int_ty} {n}, {ty} {high})"), index
        )
    short = "sf" if elem == "float" else "df"
    avx2 = width == 256 and elem == "float"
    full = "@llvm.x86.avx2.permps" if avx2 else f"@llvm.x86.avx512.permvar.{short}.{width}"
    b.declare(full, f"{ty} {full}({ty}, {int_ty})")
    only = literal(table)
    return by_pieces(b, lanes, elem, lambda n: b.let(f"call {ty} {full}({ty} {only}, {int_ty} {n})"), index)
