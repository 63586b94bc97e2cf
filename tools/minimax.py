"""Computes the polynomial coefficients of `pairfuse.backends.llvm.math_*` (Remez exchange in mpmath).

In: nothing.  Out: `python tools/minimax.py > src/pairfuse/backends/llvm/math_coefficients.py` writes that file;
`python tools/minimax.py NAME ...` shows some of its entries.

Method: E. Remez, "Sur le calcul effectif des polynomes d'approximation de Tchebichef", 1934.  The coefficients are
rounded one at a time, the most influential one first, and the remaining ones are fitted again after each rounding, so
that they make up for its error (the idea of N. Brisebarre and S. Chevillard, "Efficient polynomial L-infinity
approximations", 2007, in its simplest form).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mpmath import mp, mpf

mp.prec = 200
GRID = 24  # points of the error's grid for each coefficient

Number = Any  # mpmath.mpf, which is no class for a type checker
Function = Callable[[Number], Number]


def round_to(x: Number, bits: int) -> Number:
    """x rounded to nearest, ties to even, with a significand of `bits` bits."""
    saved, mp.prec = mp.prec, bits
    try:
        return +x
    finally:
        mp.prec = saved


@dataclass(frozen=True)
class Problem:
    """Minimise max |weight(x) (f(x) - sum_k c_k x^powers_k)| over [low, high]; coefficients have `bits` bits."""

    name: str
    f: Function
    weight: Function
    low: Number
    high: Number
    powers: tuple[int, ...]
    bits: int
    exact: tuple[tuple[int, float | Number], ...] = ()  # (power, value): coefficients that are given
    skip: int = 0  # leading powers left out of the printed tuple
    note: str = ""


def evaluate(coefficients: dict[int, Number], x: Number) -> Number:
    return mp.fsum(c * x**k for k, c in coefficients.items())


def grid_of(p: Problem, count: int) -> list[Number]:
    """Chebyshev points of the interval, ends included."""
    middle, half = (p.low + p.high) / 2, (p.high - p.low) / 2
    return [middle - half * mp.cos(mp.pi * k / (count - 1)) for k in range(count)]


def remez(
    p: Problem, fixed: dict[int, Number], free: Sequence[int], xs: list[Number], fs: list[Number], ws: list[Number]
) -> dict[int, Number]:
    """The best free coefficients on the grid, given the fixed ones.

    The lowest free power x^k is divided out and given to the weight: what is left has a constant term, so that no
    common zero spoils the alternation of the errors (Haar's condition).
    """
    lowest = min(free)
    points = [i for i in range(len(xs)) if (xs[i] != 0 or lowest == 0) and ws[i] != 0]
    x = [xs[i] for i in points]
    rest = [(fs[i] - evaluate(fixed, xs[i])) / xs[i] ** lowest for i in points]
    weight = [ws[i] * abs(xs[i]) ** lowest for i in points]
    n = len(free) + 1
    nodes = [round(k * (len(x) - 1) / (n - 1)) for k in range(n)]
    best: dict[int, Number] = {}
    least = mp.inf
    for _ in range(40):
        a, rhs = mp.matrix(n, n), mp.matrix(n, 1)
        for row, i in enumerate(nodes):
            for col, k in enumerate(free):
                a[row, col] = weight[i] * x[i] ** (k - lowest)
            a[row, n - 1] = (-1) ** row
            rhs[row] = weight[i] * rest[i]
        solution = mp.lu_solve(a, rhs)
        shifted = {k - lowest: solution[c] for c, k in enumerate(free)}
        errors = [w * (r - evaluate(shifted, t)) for w, r, t in zip(weight, rest, x, strict=True)]
        largest = max(abs(e) for e in errors)
        if largest < least:
            least, best = largest, {k: solution[c] for c, k in enumerate(free)}
        following = alternation(errors, n)
        if following is None or following == nodes:
            break
        nodes = following
    return best


def alternation(errors: list[Number], n: int) -> list[int] | None:
    """n points where the error alternates in sign, one extremum for each run of equal sign, the largest kept."""
    runs: list[int] = []
    for i, e in enumerate(errors):
        if runs and (e >= 0) == (errors[runs[-1]] >= 0):
            if abs(e) > abs(errors[runs[-1]]):
                runs[-1] = i
        else:
            runs.append(i)
    while len(runs) > n:
        if len(runs) == n + 1:  # drop the smaller end
            runs.pop(0 if abs(errors[runs[0]]) < abs(errors[runs[-1]]) else -1)
        else:  # drop the smallest extremum with its smaller neighbour: the signs go on alternating
            k = min(range(len(runs)), key=lambda j: abs(errors[runs[j]]))
            other = (
                k + 1
                if k == 0 or (k + 1 < len(runs) and abs(errors[runs[k + 1]]) < abs(errors[runs[k - 1]]))
                else k - 1
            )
            for j in sorted((k, other), reverse=True):
                runs.pop(j)
    return runs if len(runs) == n else None


def solve(p: Problem) -> tuple[dict[int, Number], Number]:
    """The rounded coefficients and their largest weighted error."""
    xs = grid_of(p, GRID * (len(p.powers) + 2))
    fs, ws = [p.f(x) for x in xs], [p.weight(x) for x in xs]
    fixed = {k: mpf(v) for k, v in p.exact}
    free = [k for k in p.powers if k not in fixed]
    while free:
        best = remez(p, fixed, free, xs, fs, ws)
        k = free.pop(0)
        fixed[k] = round_to(best[k], p.bits)
    error = max(abs(w * (f - evaluate(fixed, x))) for w, f, x in zip(ws, fs, xs, strict=True))
    return fixed, error


ONE = mpf(1)
LN2 = mp.log(2)
PROBLEMS: dict[str, Callable[[str], Problem]] = {}


def exp_problem(name: str, parts: int, last: int, bits: int, bias: float = 0.0) -> Problem:
    """expm1(r) as r + r^2 P(r), |r| <= ln 2 / (2 parts) and a little more for the rounding of the reduction; the error
    is relative to e^r.

    `bias` is taken off the coefficient of r^2: where the rounding error of an entry of the table of powers is nearly
    half an ulp and positive (2^(4/8) in float64), it makes up for some of it at the ends of the interval.
    """
    half = LN2 / (2 * parts) * (1 + mpf(2) ** -12)
    note = f"(expm1(r) - r) / r^2 on |r| <= ln 2 / {2 * parts}, relative to e^r"
    powers = tuple(range(1, last + 3))
    return Problem(
        name,
        lambda r: mp.expm1(r) - bias * r * r,
        lambda r: mp.exp(-r),
        -half,
        half,
        powers,
        bits,
        exact=((1, 1.0),),
        skip=1,
        note=note,
    )


def log_problem(name: str, last: int, low: Number, high: Number, bits: int) -> Problem:
    """log(1+t) as t + t^2 P(t); the error is relative to the logarithm."""
    note = f"(log(1+t) - t) / t^2 on [{float(low):.4f}, {float(high):.4f}], relative to log(1+t)"
    powers = tuple(range(1, last + 3))
    return Problem(name, mp.log1p, inverse(mp.log1p), low, high, powers, bits, exact=((1, 1.0),), skip=1, note=note)


def odd_problem(name: str, f: Function, what: str, last: int, high: float, bits: int, first: float = 1.0) -> Problem:
    """f(x) = first x + x^3 P(x^2), relative to f."""
    powers = tuple(range(1, 2 * last + 4, 2))
    note = f"({what} - {first} x) / x^3 in x^2 on |x| <= {high:.6g}, relative to {what}"
    return Problem(name, f, inverse(f), mpf(0), mpf(high), powers, bits, exact=((1, first),), skip=1, note=note)


def inverse(f: Function) -> Function:
    """The weight of a relative error; 0 where f vanishes."""
    return lambda x: mpf(0) if f(x) == 0 else 1 / abs(f(x))


def pow_problem(name: str, last: int) -> Problem:
    """2 atanh(s) = 2 s + 2/3 s^3 + s^5 P(s^2), relative to the last term."""

    def rest(s: Number) -> Number:
        return 2 * mp.atanh(s) - 2 * s - 2 * s**3 / 3

    powers = tuple(range(1, 2 * last + 6, 2))
    note = "(2 atanh(s) - 2 s - 2/3 s^3) / s^5 in s^2 on |s| <= 0.17158, relative"
    given = ((1, mpf(2)), (3, mpf(2) / 3))
    return Problem(name, lambda s: 2 * mp.atanh(s), inverse(rest), mpf(0), mpf("0.17158"), powers, 53, given, 2, note)


def erf_problem(name: str, last: int, high: float, bits: int) -> Problem:
    """erf(x) = x + x P(x^2), relative."""
    powers = tuple(range(1, 2 * last + 2, 2))

    def f(x: Number) -> Number:
        return mp.erf(x) - x

    note = f"erf(x) / x - 1 in x^2 on |x| <= {high}, relative to erf x"
    return Problem(name, f, inverse(mp.erf), mpf(0), mpf(high), powers, bits, note=note)


def erfc_problem(name: str, last: int, low: float, high: float, centre: float, bits: int) -> Problem:
    """-log erfc(x) in x - centre; the error is that of 1 - erfc(x), relative to erf(x)."""
    note = f"-log erfc(x) in x - {centre} on [{low}, {high}], as an error of erf x"
    return Problem(
        name,
        lambda t: -mp.log(mp.erfc(t + centre)),
        lambda t: mp.erfc(t + centre) / mp.erf(t + centre),
        mpf(low) - centre,
        mpf(high) - centre,
        tuple(range(last + 1)),
        bits,
        note=note,
    )


def erfcx_problem(name: str, last: int, low: float, high: float, centre: float, bits: int) -> Problem:
    """(1 + 2 x) e^(x^2) erfc(x) in t = (x - centre) / (x + centre), relative."""

    def f(t: Number) -> Number:
        x = centre * (1 + t) / (1 - t)
        return (1 + 2 * x) * mp.exp(x * x) * mp.erfc(x)

    ends = [(mpf(x) - centre) / (mpf(x) + centre) for x in (low, high)]
    note = f"(1 + 2 x) e^(x^2) erfc(x) in (x - {centre}) / (x + {centre}) on [{low}, {high}], relative"
    return Problem(name, f, inverse(f), *ends, tuple(range(last + 1)), bits, note=note)


def problem(name: str, make: Callable[[str], Problem]) -> None:
    PROBLEMS[name] = make


def expm1_problem(name: str, last: int, high: float, bits: int) -> Problem:
    """expm1(r) as r + r^2 P(r), relative to expm1(r)."""
    note = f"(expm1(r) - r) / r^2 on |r| <= {high}, relative to expm1(r)"
    powers = tuple(range(1, last + 3))
    return Problem(
        name, mp.expm1, inverse(mp.expm1), -mpf(high), mpf(high), powers, bits, exact=((1, 1.0),), skip=1, note=note
    )


def exp2_problem(name: str, parts: int, last: int, bits: int, bias: float = 0.0) -> Problem:
    """2^f - 1 as f Q(f), |f| <= 1 / (2 parts); the error is relative to 2^f; `bias` as for `exp_problem`."""
    half = mpf(1) / (2 * parts)
    note = f"(2^f - 1) / f on |f| <= 1 / {2 * parts}, relative to 2^f"
    powers = tuple(range(1, last + 2))
    return Problem(
        name, lambda f: mp.expm1(f * LN2) - bias * f * f, lambda f: mpf(2) ** -f, -half, half, powers, bits, note=note
    )


def cos_problem(name: str, last: int, high: float, bits: int) -> Problem:
    """cos(r) = 1 - r^2 / 2 + r^4 P(r^2), relative."""
    powers = tuple(range(0, 2 * last + 6, 2))
    note = f"(cos r - 1 + r^2 / 2) / r^4 in r^2 on |r| <= {high:.6g}, relative to cos r"
    given = ((0, 1.0), (2, -0.5))
    return Problem(name, mp.cos, inverse(mp.cos), mpf(0), mpf(high), powers, bits, exact=given, skip=2, note=note)


SQRT_HALF, SQRT_2 = mp.sqrt(mpf("0.5")), mp.sqrt(2)
OCTANT = float(mp.pi / 4) + 0.005  # the reduction of the argument rounds

problem("EXP_F32", lambda n: exp_problem(n, 1, 4, 24))
problem("EXP_F32_8", lambda n: exp_problem(n, 8, 2, 24))
problem("EXP_F32_16", lambda n: exp_problem(n, 16, 1, 24))
problem("EXP_F64", lambda n: exp_problem(n, 1, 9, 53))
problem("EXP_F64_8", lambda n: exp_problem(n, 8, 5, 53, 1.6e-15))
problem("EXPM1_F32", lambda n: expm1_problem(n, 5, 0.53, 24))
problem("EXPM1_F64", lambda n: expm1_problem(n, 11, 0.53, 53))
problem("EXP2_F32", lambda n: exp2_problem(n, 1, 5, 24))
problem("EXP2_F32_8", lambda n: exp2_problem(n, 8, 3, 24))
problem("EXP2_F32_16", lambda n: exp2_problem(n, 16, 2, 24))
problem("EXP2_F64", lambda n: exp2_problem(n, 1, 10, 53))
problem("EXP2_F64_8", lambda n: exp2_problem(n, 8, 6, 53, 1e-15))
problem("LOG_F32", lambda n: log_problem(n, 9, SQRT_HALF - 1, SQRT_2 - 1, 24))
problem("LOG_F32_TABLE", lambda n: log_problem(n, 3, mpf("-0.0335"), mpf("0.0626"), 24))
problem("LOG_F64_TABLE", lambda n: log_problem(n, 8, mpf("-0.0335"), mpf("0.0626"), 53))
problem("LOG_F64", lambda n: odd_problem(n, lambda s: 2 * mp.atanh(s), "2 atanh(x)", 6, 0.17158, 53, 2.0))
problem("POW_LOG_F64", lambda n: pow_problem(n, 7))
problem("SIN_F32", lambda n: odd_problem(n, mp.sin, "sin x", 2, OCTANT, 24))
problem("SIN_F64", lambda n: odd_problem(n, mp.sin, "sin x", 5, OCTANT, 53))
problem("COS_F32", lambda n: cos_problem(n, 2, OCTANT, 24))
problem("COS_F64", lambda n: cos_problem(n, 5, OCTANT, 53))
problem("SINH_F32", lambda n: odd_problem(n, mp.sinh, "sinh x", 3, 1.0, 24))
problem("SINH_F64", lambda n: odd_problem(n, mp.sinh, "sinh x", 6, 1.0, 53))
problem("ATAN_F32", lambda n: odd_problem(n, mp.atan, "atan x", 5, 0.5, 24))
problem("ATAN_F64", lambda n: odd_problem(n, mp.atan, "atan x", 12, 0.5, 53))
problem("ASIN_F32", lambda n: odd_problem(n, mp.asin, "asin x", 5, 0.5, 24))
problem("ASIN_F64", lambda n: odd_problem(n, mp.asin, "asin x", 11, 0.5, 53))
problem("ERF_F32", lambda n: erf_problem(n, 5, 0.85, 24))
problem("ERF_F64", lambda n: erf_problem(n, 10, 0.85, 53))
problem("ERFC_LOG_F32", lambda n: erfc_problem(n, 6, 0.85, 4.0, 1.25, 24))
problem("ERFC_LOG_F64", lambda n: erfc_problem(n, 18, 0.85, 6.0, 1.25, 53))
problem("ERFCX_F32", lambda n: erfcx_problem(n, 9, 0.46, 10.6, 2.0, 24))
problem("ERFCX_F64", lambda n: erfcx_problem(n, 22, 0.46, 27.5, 3.5, 53))

HEADER = '''"""Coefficients of the vector functions, written by tools/minimax.py: do not edit.

In: nothing.  Out: tuples of floats, the coefficient of the lowest power first.  The line above each says what the
polynomial stands for and the largest error of the rounded polynomial.
"""

from __future__ import annotations
'''


def tuple_text(name: str, numbers: Sequence[Number]) -> str:
    texts = [repr(float(x)) for x in numbers]
    line = f"{name} = ({', '.join(texts)})"
    return line if len(line) <= 120 else "\n".join([f"{name} = (", *(f"    {text}," for text in texts), ")"])


def polynomial_text(p: Problem) -> str:
    coefficients, error = solve(p)
    note = f"# {p.note}: 2^{float(mp.log(error, 2)):.2f}\n"
    return note + tuple_text(p.name, [coefficients[k] for k in p.powers[p.skip :]])


def power_tables(suffix: str, parts: int, bits: int) -> str:
    """2^(k/parts) rounded, and the relative error of each entry."""
    exact = [mpf(2) ** (mpf(k) / parts) for k in range(parts)]
    rounded = [round_to(t, bits) for t in exact]
    errors = [round_to(t / r - 1, bits) for t, r in zip(exact, rounded, strict=True)]
    return "\n".join(
        [
            f"# 2^(k/{parts}), rounded, and what the exact number is relative to it, less 1",
            tuple_text(f"POWERS_{suffix}", rounded),
            tuple_text(f"POWER_ERRORS_{suffix}", errors),
        ]
    )


def log_tables(suffix: str, bits: int, high_bits: int) -> str:
    """For m in [3/4, 3/2), k the four first fraction bits of m: c_k near 1/m, so short that m c_k - 1 is exact,
    and -log c_k in two parts, the first a multiple of 2^-high_bits.  c = 1 on both sides of m = 1."""
    intervals = [(1 + mpf(k) / 16, 1 + mpf(k + 1) / 16) for k in range(8)]
    intervals += [(mpf("0.5") + mpf(k) / 32, mpf("0.5") + mpf(k + 1) / 32) for k in range(8, 16)]
    # Multiples of 1/32, so that m c - 1 fits in the format (exact below 1/16 for m >= 1, below 1/32 for m < 1); rounded
    # up for m >= 1, so that m c - 1 is small, and its rounding error with it, where log m is small.
    c = [ONE if ONE in ends else mp.nint(64 / sum(ends) + (0.5 if ends[0] > 1 else 0)) / 32 for ends in intervals]
    high = [mp.nint(-mp.log(x) * 2**high_bits) / mpf(2) ** high_bits for x in c]
    rest = [round_to(-mp.log(x) - h, bits) for x, h in zip(c, high, strict=True)]
    t = [end * x - 1 for ends, x in zip(intervals, c, strict=True) for end in ends]
    return "\n".join(
        [
            f"# c_k near 1/m, and -log c_k in two parts; m c_k - 1 lies in [{float(min(t)):.5f}, {float(max(t)):.5f}]",
            tuple_text(f"LOG_INVERSES_{suffix}", c),
            tuple_text(f"LOG_HIGH_{suffix}", high),
            tuple_text(f"LOG_REST_{suffix}", rest),
        ]
    )


def main(names: Sequence[str]) -> None:
    if not names:
        print(HEADER)
        print(power_tables("F32_16", 16, 24))
        print(power_tables("F32_8", 8, 24))
        print(power_tables("F64_8", 8, 53))
        print(log_tables("F32", 24, 16))
        print(log_tables("F64", 53, 41))
    for name in names or list(PROBLEMS):
        print(polynomial_text(PROBLEMS[name](name)))


if __name__ == "__main__":
    main(sys.argv[1:])
