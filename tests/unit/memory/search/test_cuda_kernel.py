"""The Triton kernel: by Triton's interpreter wherever Triton is, and compiled where there is a device for it.

Triton decides when it is imported whether it interprets, so those tests run in a process of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from horen.memory import hopfield_step
from horen.memory.search import blocks
from support.reference import as_integers, clustered, unit

triton = pytest.importorskip("triton")
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from horen.memory.search import cuda_kernel  # noqa: E402

CLOSE = {"atol": 2e-6, "rtol": 0}
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(not INTERPRETED, reason="runs in the process that test_by_the_interpreter starts")
compiled = pytest.mark.skipif(INTERPRETED, reason="is about the compiled kernel")
cuda = pytest.mark.skipif(INTERPRETED or not torch.cuda.is_available(), reason="needs a CUDA device")


@compiled
def test_by_the_interpreter():
    command = [sys.executable, "-m", "pytest", __file__, "-p", "no:xdist", "-p", "no:cacheprovider"]
    done = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "8 passed" in done.stdout, done.stdout


@interpreted
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 300), st.integers(1, 150)),
    beta=st.sampled_from([0.0, 5.0, 20.0, 400.0]),
    asleep=st.floats(0, 0.99),
)
@example(0, (1, 257, 64), 20.0, 0.0)
@example(1, (33, 129, 70), 400.0, 0.9)
def test_the_kernel_gives_what_blocks_give(seed: int, sizes: tuple[int, int, int], beta: float, asleep: float):
    rows, count, size = sizes
    keys, queries = clustered(count, seed, size), clustered(rows, seed + 1, size)
    draw = torch.Generator().manual_seed(seed)
    awake = torch.rand(count, generator=draw) >= asleep
    awake[seed % count] = True
    for mask in (None, awake):
        scores = torch.empty(rows, count)
        found = cuda_kernel.readout(queries, keys, beta=beta, awake=mask, scores=scores)
        torch.testing.assert_close(scores, queries @ keys.T, **CLOSE)
        # An exponent is off by β times a rounding.
        close = CLOSE | {"atol": max(2e-6, beta * 2.0**-22)}
        torch.testing.assert_close(found, blocks.readout(queries, keys, beta=beta, awake=mask), **close)


@interpreted
@pytest.mark.parametrize("rows", [1, 20])
def test_keys_that_are_integers_are_scaled(rows: int):
    keys, queries, scores = as_integers(clustered(130, 1, 70)), unit(rows, 2, 70), torch.empty(rows, 130)
    found = cuda_kernel.readout(queries, keys, beta=20.0, scores=scores)
    torch.testing.assert_close(scores, queries @ keys[:].T, **CLOSE)
    torch.testing.assert_close(found, blocks.readout(queries, keys[:], beta=20.0), **CLOSE)


@interpreted
def test_keys_in_half_precision_are_summed_up_in_float32():
    keys, queries = unit(120, 1, 32).half(), unit(4, 2, 32)
    found = cuda_kernel.readout(queries, keys, beta=20.0)
    torch.testing.assert_close(found, blocks.readout(queries, keys.float(), beta=20.0), **CLOSE)


@pytest.mark.parametrize(("rows", "size", "width"), [(1, 512, 4), (1, 14_336, 4), (7, 4096, 2), (500, 128, 4)])
def test_tiles_fit_the_cache_and_the_kernel(rows: int, size: int, width: int):
    wide, tall = cuda_kernel.tile(rows, size, width)
    assert all(number & (number - 1) == 0 for number in (wide, tall))
    assert (wide == 1) == (rows == 1)
    assert wide == 1 or min(wide, tall) >= 16
    assert tall * size * width <= 2 * cuda_kernel._BLOCK_BYTES or tall in (1, 16)


@compiled
@pytest.mark.parametrize(("wide", "tall"), [(1, 64), (1, 4), (16, 16)])
@pytest.mark.parametrize("kind", ["*fp32", "*i8"])
def test_it_compiles_for_a_device_that_is_not_here(wide: int, tall: int, kind: str):
    names = {
        "queries": "*fp32",
        "keys": kind,
        "scales": "*fp32",
        "awake": "*u8",
        "table": "*fp32",
        "mixed": "*fp32",
        "peaks": "*fp32",
        "beta": "fp32",
    }
    numbers = dict.fromkeys(("rows", "count", "size", "programs"), "i32")
    constants = {"QUERIES": wide, "KEYS": tall, "CHUNK": 64, "MASKED": True, "KEPT": True}
    constants["SCALED"] = kind == "*i8"
    source = ASTSource(cuda_kernel._add_up, names | numbers | dict.fromkeys(constants, "constexpr"), constants)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    assert made.metadata.shared <= 96 << 10
    assert made.asm["cubin"]


@pytest.fixture
def new_choice():
    blocks._kernel.cache_clear()
    yield
    blocks._kernel.cache_clear()


@compiled
@pytest.mark.usefixtures("new_choice")
def test_a_kernel_that_fails_or_errs_is_left_alone(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    device = torch.device("cpu")  # where the real kernel cannot run
    assert blocks._kernel("cuda", device) is blocks._by_blocks
    assert "The kernel for cpu does not work" in caplog.text
    blocks._kernel.cache_clear()
    monkeypatch.setattr("horen.memory.search.cuda_kernel.readout", lambda queries, _keys, **_: queries)
    assert blocks._kernel("cuda", device) is blocks._by_blocks


@cuda
@pytest.mark.usefixtures("new_choice")
@pytest.mark.parametrize(("rows", "count", "size"), [(1, 5000, 512), (16, 5000, 512), (3, 300, 4096), (1, 40, 14_336)])
def test_on_a_device_it_is_used_and_right(rows: int, count: int, size: int):
    keys, queries = clustered(count, 1, size).cuda(), clustered(rows, 2, size).cuda()
    assert blocks._kernel("cuda", keys.device) is not blocks._by_blocks
    moved, attractor = hopfield_step(queries, keys, alpha=0.1, beta=20.0)
    expected = hopfield_step(queries.cpu(), keys.cpu(), alpha=0.1, beta=20.0)
    torch.testing.assert_close(attractor.cpu(), expected[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(moved.cpu(), expected[0], atol=1e-5, rtol=0)
