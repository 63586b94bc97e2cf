"""The instructions of the PTX machine that compute element by element, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from ptx.written import execute

LOAD = {"u2": ("b16", "%h"), "u4": ("b32", "%r"), "u8": ("b64", "%d")}
THREADS = 512


def values(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Random numbers of a type, and those at which something special happens."""
    dtype = np.dtype(kind)
    if dtype.kind == "f":
        found = (rng.standard_normal(THREADS) * 10.0 ** rng.uniform(-3, 3, THREADS)).astype(dtype)
        special = [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, np.nan, np.inf, -np.inf, 3e38, 1e-40, -1e-40]
        with np.errstate(over="ignore"):
            found[:: THREADS // len(special)][: len(special)] = special
        return rng.permutation(found)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    found = rng.integers(low, high, THREADS, dtype, endpoint=True)
    small = rng.integers(max(low, -40), 40, THREADS, dtype)
    return rng.permutation(np.where(rng.random(THREADS) < 0.5, found, small))


def float32_of(x: np.ndarray) -> np.ndarray:
    return (x.astype(np.uint32) << np.uint32(16)).view(np.float32)


def truncated(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.array([int(Fraction(int(x), int(y))) if y else -1 for x, y in zip(a, b, strict=True)], a.dtype)


def wide(a: np.ndarray, b: np.ndarray) -> list[int]:
    return [int(x) * int(y) for x, y in zip(a, b, strict=True)]


def wrapped(numbers: list[int], kind: str) -> np.ndarray:
    size = 8 * np.dtype(kind).itemsize
    return np.array([n & ((1 << size) - 1) for n in numbers], f"u{size // 8}").view(kind)


def cut(x: np.ndarray, kind: str, function: Callable[[Any], Any]) -> np.ndarray:
    """To integers, at the ends of the type where numbers are beyond it."""
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    clipped = np.clip(np.where(np.isnan(x), 0, x).astype(np.float64), low, high)
    return function(clipped).astype(kind)


def shifted(a: np.ndarray, n: np.ndarray, left: bool) -> np.ndarray:
    """By the width or more, to 0."""
    pairs = [(int(x), min(int(k), 64)) for x, k in zip(a, n, strict=True)]
    return wrapped([x << k if left else x >> k for x, k in pairs], "u4")


def flush(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < np.finfo(np.float32).smallest_normal, np.copysign(np.float32(0), x), x)


# opcode: types of the arguments, type of the result, the same in NumPy
ARITHMETIC: dict[str, tuple[str, str, Callable[..., Any]]] = {
    "add.s32": ("i4 i4", "i4", lambda a, b: a + b),
    "sub.s64": ("i8 i8", "i8", lambda a, b: a - b),
    "mul.lo.s32": ("i4 i4", "i4", lambda a, b: a * b),
    "mul.wide.s32": ("i4 i4", "i8", lambda a, b: a.astype("i8") * b),
    "mul.hi.u32": ("u4 u4", "u4", lambda a, b: wrapped([n >> 32 for n in wide(a, b)], "u4")),
    "mul.hi.s64": ("i8 i8", "i8", lambda a, b: wrapped([n >> 64 for n in wide(a, b)], "i8")),
    "mul.hi.u64": ("u8 u8", "u8", lambda a, b: wrapped([n >> 64 for n in wide(a, b)], "u8")),
    "mad.lo.s32": ("i4 i4 i4", "i4", lambda a, b, c: a * b + c),
    "mad.wide.u32": ("u4 u4 u8", "u8", lambda a, b, c: a.astype("u8") * b + c),
    "div.s32": ("i4 i4", "i4", truncated),
    "div.u64": ("u8 u8", "u8", lambda a, b: np.where(b == 0, ~a * 0 - 1, a // np.maximum(b, 1))),
    "rem.s32": ("i4 i4", "i4", lambda a, b: np.where(b == 0, a, np.fmod(a, np.where(b == 0, 1, b)))),
    "min.s32": ("i4 i4", "i4", np.minimum),
    "max.u64": ("u8 u8", "u8", np.maximum),
    "abs.s32": ("i4", "i4", np.abs),
    "not.b32": ("u4", "u4", np.invert),
    "xor.b64": ("u8 u8", "u8", np.bitwise_xor),
    "shl.b32": ("u4 u4", "u4", lambda a, n: shifted(a, n, True)),
    "shr.s64": ("i8 u4", "i8", lambda a, n: a >> np.minimum(n, 63)),
    "shr.u32": ("u4 u4", "u4", lambda a, n: shifted(a, n, False)),
    "popc.b64": ("u8", "u4", lambda a: np.array([int(x).bit_count() for x in a], "u4")),
    "clz.b32": ("u4", "u4", lambda a: np.array([32 - int(x).bit_length() for x in a], "u4")),
    "add.f32": ("f4 f4", "f4", np.add),
    "mul.ftz.f32": ("f4 f4", "f4", lambda a, b: flush(flush(a) * flush(b))),
    "div.rn.f64": ("f8 f8", "f8", np.divide),
    "sqrt.rn.f32": ("f4", "f4", np.sqrt),
    "min.f32": ("f4 f4", "f4", np.fmin),
    "max.NaN.f32": ("f4 f4", "f4", np.maximum),
    "abs.f64": ("f8", "f8", np.abs),
    "neg.f32": ("f4", "f4", np.negative),
    "copysign.f32": ("f4 f4", "f4", lambda a, b: np.copysign(b, a)),
    "ex2.approx.ftz.f32": ("f4", "f4", lambda a: flush(np.exp2(flush(a).astype("f8")).astype("f4"))),
    "rcp.approx.f32": ("f4", "f4", lambda a: (1 / a.astype("f8")).astype("f4")),
    "cvt.s64.s32": ("i4", "i8", lambda a: a.astype("i8")),
    "cvt.u32.u64": ("u8", "u4", lambda a: a.astype("u4")),
    "cvt.rn.f32.s32": ("i4", "f4", lambda a: a.astype("f4")),
    "cvt.rn.f64.s64": ("i8", "f8", lambda a: a.astype("f8")),
    "cvt.rn.f32.f64": ("f8", "f4", lambda a: a.astype("f4")),
    "cvt.f64.f32": ("f4", "f8", lambda a: a.astype("f8")),
    "cvt.rzi.s32.f32": ("f4", "i4", lambda a: cut(a, "i4", np.trunc)),
    "cvt.rni.s32.f64": ("f8", "i4", lambda a: cut(a, "i4", np.rint)),
    "cvt.rmi.f32.f32": ("f4", "f4", np.floor),
    "cvt.sat.f32.f32": ("f4", "f4", lambda a: np.where(np.isnan(a), np.float32(0), np.clip(a, 0, 1))),
    "cvt.rn.f16.f32": ("f4", "u2", lambda a: a.astype("f2").view("u2")),
    "cvt.f32.f16": ("u2", "f4", lambda a: a.view("f2").astype("f4")),
    "cvt.f32.bf16": ("u2", "f4", float32_of),
}


def loaded(kinds: list[str]) -> tuple[str, list[str]]:
    """The lines that load the arguments, and their registers."""
    lines: list[str] = []
    names: list[str] = []
    for k, kind in enumerate(kinds):
        move, register = LOAD[f"u{np.dtype(kind).itemsize}"]
        names.append(f"{register}{10 + k}")
        lines.append(f"ld.global.{move} {names[-1]}, [%d{k + 1}];")
    return "\n".join(lines), names


@pytest.mark.parametrize("opcode", ARITHMETIC)
def test_arithmetic(opcode: str) -> None:
    """In programs of 128 threads, of which several run together."""
    taken, kind, function = ARITHMETIC[opcode]
    rng = np.random.default_rng(len(opcode))
    args = [values(k, rng) for k in taken.split()]
    found = np.zeros(THREADS, kind)
    load, names = loaded(taken.split())
    move, register = LOAD[f"u{found.itemsize}"]
    body = f"{load}\n{opcode} {register}20, {', '.join(names)};\nst.global.{move} [%d0], {register}20;"
    execute(body, found, *args, threads=THREADS)
    with np.errstate(all="ignore"):
        expected = np.asarray(function(*args)).astype(kind)
    if opcode == "cvt.f32.f16" or found.dtype.kind == "f":
        assert np.array_equal(np.isnan(found), np.isnan(expected))
        found, expected = (np.where(np.isnan(x), 0, x) for x in (found, expected))
    elif opcode == "cvt.rn.f16.f32":
        nan = np.isnan(args[0])
        found, expected = (np.where(nan, 0, x) for x in (found, expected))
    np.testing.assert_array_equal(found, expected)


def test_a_fused_product_and_sum_is_rounded_once() -> None:
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal(THREADS) for _ in range(3))
    c[::2] = -(a * b)[::2]  # nothing is left but the rounding error
    found = np.zeros(THREADS)
    load, names = loaded(["f8"] * 3)
    execute(
        f"{load}\nfma.rn.f64 %d20, {', '.join(names)};\nst.global.b64 [%d0], %d20;", found, a, b, c, threads=THREADS
    )
    exact = [float(Fraction(x) * Fraction(y) + Fraction(z)) for x, y, z in zip(a, b, c, strict=True)]
    np.testing.assert_array_equal(found, exact)


@pytest.mark.parametrize("mode", ["rm", "rp", "rz"])
def test_directions_of_rounding(mode: str) -> None:
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal(THREADS).astype(np.float32) for _ in range(3))
    found = np.zeros(THREADS, np.float32)
    load, names = loaded(["f4"] * 3)
    execute(
        f"{load}\nfma.{mode}.f32 %r20, {', '.join(names)};\nst.global.b32 [%d0], %r20;", found, a, b, c, threads=THREADS
    )
    for x, y, z, got in zip(a, b, c, found, strict=True):
        right = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        low, high = np.nextafter(got, np.float32(-np.inf)), np.nextafter(got, np.float32(np.inf))
        up = mode == "rp" or (mode == "rz" and right < 0)
        assert (float(low) < right <= float(got)) if up else (float(got) <= right < float(high))


COMPARED: dict[str, Callable[[Any, Any], Any]] = {
    "setp.lt.f32": np.less,
    "setp.ne.f32": lambda a, b: (a < b) | (a > b),
    "setp.neu.f32": np.not_equal,
    "setp.geu.f32": lambda a, b: ~(a < b),
    "setp.num.f32": lambda a, b: ~(np.isnan(a) | np.isnan(b)),
    "setp.nan.f32": lambda a, b: np.isnan(a) | np.isnan(b),
}


@pytest.mark.parametrize("opcode", COMPARED)
def test_comparisons(opcode: str) -> None:
    """Of numbers that may be NaN, also combined with another predicate, and its opposite."""
    rng = np.random.default_rng(1)
    a, b = values("f4", rng), values("f4", rng)
    a[::9] = b[::9]
    found = np.zeros(THREADS, np.uint32)
    load, (x, y) = loaded(["f4"] * 2)
    name, compare, kind = opcode.split(".")
    body = f"""{load}
    {opcode} %p1, {x}, {y};
    and.b32 %r20, %r0, 1;
    setp.eq.u32 %p2, %r20, 1;
    {name}.{compare}.and.{kind} %p3|%p4, {x}, {y}, %p2;
    selp.b32 %r21, 1, 0, %p1;
    selp.b32 %r22, 2, 0, %p3;
    selp.b32 %r23, 4, 0, %p4;
    or.b32 %r21, %r21, %r22;
    or.b32 %r21, %r21, %r23;
    st.global.b32 [%d0], %r21;"""
    execute(body, found, a, b, threads=THREADS)
    holds, odd = COMPARED[opcode](a, b), np.arange(THREADS) % 2 == 1
    np.testing.assert_array_equal(found, holds + 2 * (holds & odd) + 4 * (~holds & odd))


def test_bits_and_halves_of_registers() -> None:
    a = values("u4", np.random.default_rng(2))
    found = np.zeros((THREADS, 8), np.uint32)
    body = """
    mad.wide.u32 %d0, %r0, 28, %d0;
    ld.global.b32 %r1, [%d1];
    mov.b32 {%h1, %h2}, %r1;
    mov.b32 %r2, {%h2, %h1};
    bfe.u32 %r3, %r1, 5, 9;
    bfe.s32 %r4, %r1, 5, 9;
    bfi.b32 %r5, %r1, 0, 4, 7;
    prmt.b32 %r6, %r1, 0, 0x0123;
    lop3.b32 %r7, %r1, %r2, %r3, 0x96;
    shf.l.wrap.b32 %r8, %r1, %r1, 7;
    { .reg .b32 %r1; mov.b32 %r1, 5; mov.b64 %d2, {%r1, %r2}; mov.b64 {_, %r9}, %d2; }
    st.global.v4.b32 [%d0], {%r2, %r3, %r4, %r5};
    st.global.v4.b32 [%d0+16], {%r6, %r7, %r8, %r9};"""
    execute(body, found, a, threads=THREADS)
    swapped = (a >> np.uint32(16)) | (a << np.uint32(16))
    part = (a >> np.uint32(5)) & np.uint32(511)
    signed = (part.astype(np.int32) << 23 >> 23).view(np.uint32)
    rolled = (a << np.uint32(7)) | (a >> np.uint32(25))
    expected = [
        swapped,
        part,
        signed,
        (a & np.uint32(127)) << np.uint32(4),
        a.byteswap(),
        a ^ swapped ^ part,
        rolled,
        swapped,
    ]
    np.testing.assert_array_equal(found, np.stack(expected, 1))


def test_numbers_of_several_words_and_calls() -> None:
    """A function that is called, and sums with carry: 128 bits by two words of 64 bits."""
    rng = np.random.default_rng(3)
    a, b = values("u8", rng), values("u8", rng)
    low, high = np.zeros(THREADS, np.uint64), np.zeros(THREADS, np.uint64)
    function = """
    .func (.param .align 16 .b8 both[16]) twice (.param .b64 first, .param .b64 second)
    {
    .reg .b64 %d<5>;
    .reg .pred %p<2>;
    ld.param.b64 %d1, [first];
    ld.param.b64 %d2, [second];
    setp.eq.u64 %p1, %d1, 0;
    mov.b64 %d3, %d2;
    mov.b64 %d4, 0;
    @%p1 bra done;
    add.cc.u64 %d3, %d1, %d2;
    addc.u64 %d4, 0, 0;
    done:
    st.param.b64 [both], %d3;
    st.param.b64 [both+8], %d4;
    ret;
    }"""
    body = """
    ld.global.b64 %d5, [%d2];
    ld.global.b64 %d6, [%d3];
    { .param .b64 x; .param .b64 y; .param .align 16 .b8 z[16];
    st.param.b64 [x], %d5;
    st.param.b64 [y], %d6;
    call.uni (z), twice, (x, y);
    ld.param.b64 %d7, [z];
    ld.param.b64 %d8, [z+8]; }
    st.global.b64 [%d0], %d7;
    st.global.b64 [%d1], %d8;"""
    execute(body, low, high, a, b, threads=THREADS, functions=function)
    sums = [int(x) + int(y) for x, y in zip(a, b, strict=True)]
    assert [int(x) + (int(y) << 64) for x, y in zip(low, high, strict=True)] == sums
