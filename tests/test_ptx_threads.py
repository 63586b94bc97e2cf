"""The threads of the PTX machine: warps, threads that part and meet, barriers, memory, matrix units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ptx.driver import machine
from ptx.machine import MachineError
from ptx.parse import PtxError
from ptx.use import compiled_in, needs_compiler
from ptx.written import execute

from pairfuse.backends.triton.compile import run_text
from pairfuse.backends.triton.launch import OPTIONS

# ---------------------------------------------------------------------- warps, threads that part, barriers


def test_shuffles_and_reductions_of_a_warp() -> None:
    found = np.zeros((64, 8), np.int32)
    body = """
    mad.wide.u32 %d0, %r0, 28, %d0;
    shfl.sync.bfly.b32 %r1, %r0, 5, 31, -1;
    shfl.sync.idx.b32 %r2, %r0, 7, 31, -1;
    shfl.sync.up.b32 %r3|%p1, %r0, 3, 0, -1;
    shfl.sync.down.b32 %r4, %r0, 3, 31, -1;
    shfl.sync.bfly.b32 %r5, %r0, 1, 6175, -1;
    redux.sync.add.s32 %r6, %r0, -1;
    setp.lt.u32 %p2, %r0, 34;
    vote.sync.ballot.b32 %r7, %p2, -1;
    selp.b32 %r8, 1, 0, %p1;
    st.global.v4.b32 [%d0], {%r1, %r2, %r3, %r4};
    st.global.v4.b32 [%d0+16], {%r5, %r6, %r7, %r8};"""
    execute(body, found, threads=64)
    lane, first = np.arange(64) % 32, np.arange(64) // 32 * 32
    expected = [
        *(first + (lane ^ 5), first + 7, first + np.where(lane < 3, lane, lane - 3)),
        *(first + np.where(lane > 28, lane, lane + 3), first + (lane ^ 1)),
        *(np.where(first == 0, 496, 496 + 1024), np.where(first == 0, -1, 3), lane >= 3),
    ]
    np.testing.assert_array_equal(found, np.stack(expected, 1))


def test_threads_that_part_and_meet() -> None:
    """Loops of another length in every thread; a branch that lies behind the place where all meet."""
    found = np.zeros(200 * 2, np.int32)
    body = """
    mov.u32 %r9, %ctaid.x;
    mad.lo.u32 %r8, %r9, 200, 0;
    mul.wide.u32 %d1, %r8, 4;
    add.s64 %d0, %d0, %d1;
    mov.b32 %r1, 0;
    mov.b32 %r2, 0;
    again:
    setp.ge.u32 %p1, %r2, %r0;
    @%p1 bra done;
    add.s32 %r1, %r1, %r2;
    add.s32 %r2, %r2, 1;
    bra again;
    done:
    and.b32 %r3, %r0, 1;
    setp.eq.s32 %p2, %r3, 1;
    @%p2 bra odd;
    meet:
    shfl.sync.idx.b32 %r4, %r1, 1, 31, -1;
    setp.ge.u32 %p3, %r0, 200;
    @!%p3 st.global.b32 [%d0], %r4;
    bra end;
    odd:
    neg.s32 %r1, %r1;
    bra meet;
    end:"""
    counts = execute(body, found, threads=224, grid=2)
    lane = np.arange(200) // 32 * 32 + 1
    np.testing.assert_array_equal(found, np.tile(-lane * (lane - 1) // 2, 2))
    assert counts["add.s32"] == 2 * 2 * sum(range(224))
    assert counts["neg.s32"] == 224


REVERSE = """
shl.b32 %r1, %r0, 2;
mov.b32 %r2, room;
add.s32 %r1, %r1, %r2;
st.shared.b32 [%r1], %r0;
{barrier}
sub.s32 %r3, 124, %r1;
add.s32 %r3, %r3, 384;
ld.shared.b32 %r4, [%r3];
st.global.b32 [%d0], %r4;"""


def test_barriers_and_shared_memory() -> None:
    """Warps that come to the barrier at different times; every program has memory of its own."""
    found = np.zeros(128, np.int32)
    late = "setp.lt.u32 %p1, %r0, 64;\n@%p1 bra here;\nmov.b32 %r9, 1;\nhere:\nbar.sync 0;"
    execute(REVERSE.replace("{barrier}", late), found, threads=128, grid=3, shared=512)
    np.testing.assert_array_equal(found, np.arange(128)[::-1])


def test_a_missing_barrier() -> None:
    """Between warps: in lock step the numbers would be right. Threads of one warp need none."""
    with pytest.raises(MachineError, match="read, without a barrier after another warp has written it"):
        execute(REVERSE.replace("{barrier}", ""), np.zeros(128, np.int32), threads=128, shared=512)
    again = "\nst.shared.b32 [%r1], %r4;"
    with pytest.raises(MachineError, match="written, without a barrier after another warp has read it"):
        execute(REVERSE.replace("{barrier}", "bar.sync 0;") + again, np.zeros(128, np.int32), threads=128, shared=512)
    found = np.zeros(32, np.int32)
    execute(REVERSE.replace("{barrier}", "").replace("384", "0"), found, threads=32, shared=128)
    np.testing.assert_array_equal(found, np.arange(32)[::-1])


def test_threads_that_wait_for_ever() -> None:
    body = "setp.lt.u32 %p1, %r0, 40;\n@%p1 bra one;\nshfl.sync.idx.b32 %r1, %r0, 1, 31, -1;\none:"
    with pytest.raises(MachineError, match=r"wait for others for ever at line \d+: shfl"):
        execute(body, np.zeros(64), threads=64)


def test_asynchronous_copies_are_there_after_the_wait() -> None:
    given, early, late = np.arange(128, dtype=np.int32), np.zeros(128, np.int32), np.zeros(128, np.int32)
    body = """
    mad.wide.u32 %d2, %r0, 12, %d2;
    shl.b32 %r1, %r0, 4;
    cp.async.cg.shared.global [%r1], [%d2], 16;
    cp.async.commit_group;
    cp.async.wait_group 1;
    ld.shared.b32 %r2, [%r1];
    cp.async.wait_group 0;
    ld.shared.b32 %r3, [%r1];
    st.global.b32 [%d0], %r2;
    st.global.b32 [%d1], %r3;"""
    execute(body, early, late, given, threads=32, shared=512)
    np.testing.assert_array_equal(early[:32], np.full(32, -1))
    np.testing.assert_array_equal(late[:32], np.arange(0, 128, 4))


# ---------------------------------------------------------------------- errors

WRONG: dict[str, tuple[str, str]] = {
    "beyond the end": (
        "ld.global.b32 %r1, [%d0+4];",
        r"program 0, thread 31: .* 4 bytes outside .* 0 bytes after the end",
    ),
    "before the start": ("st.global.b32 [%d0+-8], %r0;", r"thread 0: .* 8 bytes before the start of one"),
    "not aligned": ("ld.global.b32 %r1, [%d0+2];", r"thread 0: .*: not a multiple of 4"),
    "vector not aligned": ("ld.global.v2.b32 {%r1, %r2}, [%d0];", r"thread 1: .*: not a multiple of 8"),
    "shared": (
        "shl.b32 %r1, %r0, 2;\nst.shared.b32 [%r1], %r0;",
        r"thread 16: .*: beyond the 64 bytes of shared memory",
    ),
    "never written": ("add.s32 %r1, %r2, %r0;", "register %r2 is read before it is written"),
}


@pytest.mark.parametrize("name", WRONG)
def test_memory_that_is_not_allowed(name: str) -> None:
    body, text = WRONG[name]
    with pytest.raises(MachineError, match=rf"line \d+: .*{text}"):
        execute(body, np.zeros(32, np.int32), shared=64)


def test_a_predicate_keeps_threads_from_an_access() -> None:
    found = np.zeros(32, np.int32)
    execute("setp.lt.u32 %p1, %r0, 31;\n@%p1 st.global.b32 [%d0+4], %r0;", found)
    np.testing.assert_array_equal(found[1:], np.arange(31))


@pytest.mark.parametrize(
    "line",
    ["sin.approx.magic.f32 %r1, %r0;", "atom.global.add.u32 %r1, [%d0], 1;", "ld.b32 %r1, [%d0];", "mov.b32 %x, 1;"],
)
def test_what_is_not_known_is_an_error_that_names_it(line: str) -> None:
    with pytest.raises(PtxError, match=r"line \d+: " + line[:10] if "%x" not in line else "%x"):
        execute(line, np.zeros(32, np.int32))


# ---------------------------------------------------------------------- products by Triton

PRODUCT = """\
import triton
import triton.language as tl


@triton.jit
def kernel(x, y, out, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, YN: tl.constexpr, TWICE: tl.constexpr):
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    a = tl.load(x + m[:, None] * K + k[None, :])
    b = tl.load(y + n[None, :] * YN + k[:, None] * (1 if YN > 1 else N))
    c = tl.dot(a, b, input_precision="tf32")
    if TWICE:
        c = tl.dot(c.to(a.dtype), b, c, input_precision="tf32")
    tl.store(out + m[:, None] * N + n[None, :], c)
"""


@needs_compiler
@pytest.mark.parametrize("rows", [True, False], ids=["rows", "columns"])
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("capability", [80, 90])
def test_products_of_matrices(
    capability: int, kind: str, rows: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton's layouts, and its ways to load factors, against NumPy: small integers, whose products are exact.

    The second factor is stored by its columns, or by its rows; the first one of a second product is in registers.
    """
    import torch

    if capability == 90 and kind == "float32":
        pytest.skip("the machine does not know wgmma of tf32")
    compiled_in(str(tmp_path), monkeypatch)
    rng = np.random.default_rng(0)
    for m, n, k, twice in ((64, 32, 128, False), (64, 64, 64, True), (128, 16, 32, False)):
        high = 2 if twice else 8
        x, y = (rng.integers(-high, high, s) for s in ((m, k), (n, k)))
        left, right = (torch.from_numpy(z).to(getattr(torch, kind)) for z in (x, y if rows else y.T.copy()))
        out = torch.zeros(m, n, dtype=torch.float64 if kind == "float64" else torch.float32)
        with machine(capability) as gpu:
            kernel = run_text(PRODUCT)["kernel"]
            kernel[(1,)](left, right, out, M=m, N=n, K=k, YN=k if rows else 1, TWICE=twice, **OPTIONS)
        expected = x @ y.T
        if twice:
            expected = expected @ y.T + expected
        np.testing.assert_array_equal(out.numpy(), expected)
        wide = capability == 90 and kind != "float64"
        assert any(op.startswith("wgmma.mma" if wide else "mma") for op in gpu.launches[0].executed)
