"""Matrix units: products of small matrices that the threads of a warp hold together, and how these are loaded.

In: an instruction and the binder of its function.  Out: a `Step`.  Where a thread has which element is said by the
manual of the PTX instruction set: thread t is in group g = t / 4, and t' = t % 4 within it.  Products are summed up in
float64 and rounded once; the units themselves round more often, which tests/test_triton_dots.py accounts for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .arithmetic import Step
from .numbers import from_bfloat16
from .operands import TYPES, Array, Binder, Mask
from .parse import Instruction, PtxError, elements
from .warps import LANES, WARP, by_warp

if TYPE_CHECKING:
    from .machine import Run

GROUP, INSIDE = LANES // 4, LANES % 4


@dataclass(frozen=True, slots=True)
class Layout:
    """The row and column of every element of a matrix: arrays (elements of a thread, 32)."""

    rows: Array
    columns: Array


def layout(places: list[tuple[Array, Array]]) -> Layout:
    return Layout(np.array([p[0] for p in places]), np.array([p[1] for p in places]))


def halves_a(depth: int) -> Layout:
    """16 rows, of which a thread has two, two neighbouring numbers of each eight columns: for elements of 16 bits."""
    eights = range(0, depth, 8)
    return layout([(GROUP + r, INSIDE * 2 + k + e) for k in eights for r in (0, 8) for e in (0, 1)])


def halves_b(depth: int) -> Layout:
    return layout([(INSIDE * 2 + k + e, GROUP) for k in range(0, depth, 8) for e in (0, 1)])


def words_a(depth: int, rows: tuple[int, ...] = (0, 8)) -> Layout:
    """The same for elements of 32 and 64 bits: one number of each four columns."""
    return layout([(GROUP + r, INSIDE + k) for k in range(0, depth, 4) for r in rows])


def words_b(depth: int) -> Layout:
    return layout([(INSIDE + k, GROUP) for k in range(0, depth, 4)])


SUMS = layout([(GROUP + r, INSIDE * 2 + e) for r in (0, 8) for e in (0, 1)])
SUMS_OF_8_ROWS = layout([(GROUP, INSIDE * 2 + e) for e in (0, 1)])


@dataclass(frozen=True, slots=True)
class Product:
    """The layouts of the factors, the elements that one of their registers holds, the layout of the sums."""

    a: Layout
    b: Layout
    packed: int
    sums: Layout = SUMS


SHAPES: dict[tuple[str, str], Product] = {
    **{("m16n8k16", kind): Product(halves_a(16), halves_b(16), 2) for kind in ("f16", "bf16")},
    **{("m16n8k8", kind): Product(halves_a(8), halves_b(8), 2) for kind in ("f16", "bf16")},
    **{(f"m16n8k{k}", "tf32"): Product(words_a(k), words_b(k), 1) for k in (4, 8)},
    **{(f"m16n8k{k}", "f64"): Product(words_a(k), words_b(k), 1) for k in (4, 8, 16)},
    ("m8n8k4", "f64"): Product(words_a(4, (0,)), words_b(4), 1, SUMS_OF_8_ROWS),
}


def multiply(instruction: Instruction, binder: Binder) -> Step:
    """mma.sync: d = a * b + c."""
    opcode = instruction.opcode
    if opcode[1:3] != ("sync", "aligned") or opcode[4:6] != ("row", "col") or len(opcode) != 10:
        raise PtxError(f"{instruction}: this product is not known")
    total, a_kind, b_kind, c_kind = opcode[6:]
    product = SHAPES.get((opcode[3], a_kind))
    if product is None or a_kind != b_kind or total != c_kind or total not in ("f32", "f64"):
        raise PtxError(f"{instruction}: this product is not known")
    sums = TYPES[total]
    d, a, b, c = (elements(o) for o in instruction.operands)
    stores = [binder.write(n) for n in d]
    reads_a, reads_b = ([binder.read(n, TYPES["b64" if a_kind == "f64" else "b32"]) for n in x] for x in (a, b))
    reads_c = [binder.read(n, sums) for n in c]

    def step(run: Run, mask: Mask) -> None:
        left = matrices(product.a, [unpacked(by_warp(run, r(run)), a_kind) for r in reads_a])
        right = matrices(product.b, [unpacked(by_warp(run, r(run)), a_kind) for r in reads_b])
        start = matrices(product.sums, [by_warp(run, r(run))[None] for r in reads_c])
        found = (left @ right + start).astype(sums)
        for k, store in enumerate(stores):
            store(run, found[:, product.sums.rows[k], product.sums.columns[k]].ravel(), mask)

    return step


def unpacked(register: Array, kind: str) -> Array:
    """The elements of a register: (elements, warps, 32), as float64."""
    if kind == "f64":
        return register.view(np.float64)[None]
    if kind == "tf32":  # the units read 10 bits of the fraction
        return (register & np.uint32(0xFFFFE000)).view(np.float32)[None]
    pair = np.stack([register & np.uint32(0xFFFF), register >> np.uint32(16)]).astype(np.uint16)
    return pair.view(np.float16) if kind == "f16" else from_bfloat16(pair)


def matrices(where: Layout, parts: list[Any]) -> Array:
    """The matrix of each warp, of the elements that its threads hold."""
    values = np.concatenate(parts).astype(np.float64)
    found = np.empty((values.shape[1], where.rows.max() + 1, where.columns.max() + 1))
    found[:, where.rows, where.columns] = values.transpose(1, 0, 2)
    return found


def load(instruction: Instruction, binder: Binder) -> Step:
    """ldmatrix: matrices of 8 x 8 numbers of 16 bits; 8 threads name the rows of each."""
    opcode = instruction.opcode
    if opcode[1:4] != ("sync", "aligned", "m8n8") or opcode[-1] != "b16":
        raise PtxError(f"{instruction}: this load is not known")
    names, address = elements(instruction.operands[0]), binder.address(instruction.operands[1])
    stores, transposed = [binder.write(n) for n in names], "trans" in opcode
    if len(names) != int(opcode[4][1:]):
        raise PtxError(f"{instruction}: {len(names)} registers")

    def step(run: Run, mask: Mask) -> None:
        active = np.ones(run.lanes // WARP, bool) if mask is None else mask.reshape(-1, WARP)[:, 0]
        rows = by_warp(run, address(run))[active][:, : 8 * len(names)]
        threads = np.arange(run.lanes).reshape(-1, WARP)[active][:, : 8 * len(names)]
        words = run.load("shared", threads.ravel(), rows.ravel(), 4, 4)
        halves = np.ascontiguousarray(words).view(np.uint16).reshape(-1, len(names), 8, 8)
        if transposed:
            halves = halves.swapaxes(2, 3)
        pairs = np.ascontiguousarray(halves).view(np.uint32).reshape(-1, len(names), WARP)
        for k, store in enumerate(stores):
            full = np.zeros((run.lanes // WARP, WARP), np.uint32)
            full[active] = pairs[:, k]
            store(run, full.ravel(), mask)

    return step


def store(instruction: Instruction, binder: Binder) -> Step:
    """stmatrix: the opposite."""
    opcode = instruction.opcode
    if opcode[1:4] != ("sync", "aligned", "m8n8") or opcode[-1] != "b16":
        raise PtxError(f"{instruction}: this store is not known")
    names, address = elements(instruction.operands[1]), binder.address(instruction.operands[0])
    reads, transposed = [binder.read(n, TYPES["b32"]) for n in names], "trans" in opcode

    def step(run: Run, mask: Mask) -> None:
        active = np.ones(run.lanes // WARP, bool) if mask is None else mask.reshape(-1, WARP)[:, 0]
        rows = by_warp(run, address(run))[active][:, : 8 * len(names)]
        threads = np.arange(run.lanes).reshape(-1, WARP)[active][:, : 8 * len(names)]
        pairs = np.stack([by_warp(run, r(run))[active] for r in reads], axis=1)
        halves = np.ascontiguousarray(pairs).view(np.uint16).reshape(-1, len(names), 8, 8)
        if transposed:
            halves = halves.swapaxes(2, 3)
        words = np.ascontiguousarray(halves).view(np.uint32).reshape(-1, 4)
        run.store("shared", threads.ravel(), rows.ravel(), words)

    return step


TABLE: dict[str, Callable[[Instruction, Binder], Step]] = {
    "mma": multiply,
    "ldmatrix": load,
    "stmatrix": store,
}
