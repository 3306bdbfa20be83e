"""The kernel that Numba compiles for processors."""

from __future__ import annotations

import itertools
import multiprocessing
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from horen.memory.search import blocks
from support.reference import as_integers, clustered, unit

pytest.importorskip("numba")
from horen.memory.search import cpu_kernel

CLOSE = {"atol": 1e-6, "rtol": 0}


@pytest.fixture(autouse=True)
def _new_choice() -> Iterator[None]:
    blocks._kernel.cache_clear()
    yield
    blocks._kernel.cache_clear()


def whole(queries: Tensor, keys: Tensor, beta: float, awake: Tensor | None = None) -> Tensor:
    exponents = beta * (queries.double() @ keys.double().T)
    if awake is not None:
        exponents = exponents.masked_fill(~awake, -torch.inf)
    return normalize(torch.softmax(exponents, dim=-1) @ keys.double(), dim=-1).float()


@given(
    seed=st.integers(0, 1000),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 200), st.integers(1, 70)),
    beta=st.sampled_from([0.0, 5.0, 20.0, 400.0, 3000.0]),
    asleep=st.floats(0, 0.99),
    threads=st.integers(1, 5),
)
@example(0, (1, 16, 1), 0.0, 0.0, 3)
@example(0, (2, 199, 33), 20.0, 0.97, 5)
def test_it_gives_what_whole_tables_give(
    seed: int, sizes: tuple[int, int, int], beta: float, asleep: float, threads: int
):
    rows, count, size = sizes
    keys, queries = clustered(count, seed, size), clustered(rows, seed + 1, size)
    awake = torch.rand(count, generator=torch.Generator().manual_seed(seed)) >= asleep
    awake[seed % count] = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: threads)
        patch.setattr(cpu_kernel, "_CHUNK_BYTES", 16 * size)
        for mask, stored in itertools.product((None, awake), (keys, as_integers(keys))):
            keys = stored[:]
            # An exponent is off by β times a rounding.
            close = CLOSE | {"atol": max(1e-6, beta * 2.0**-22)}
            scores = torch.empty(rows, count)
            found = cpu_kernel.readout(queries, stored, beta=beta, awake=mask, scores=scores)
            torch.testing.assert_close(found, whole(queries, keys, beta, mask), **close)
            torch.testing.assert_close(scores, queries @ keys.T, **CLOSE)
            assert torch.equal(found, cpu_kernel.readout(queries, stored, beta=beta, awake=mask))


def test_any_number_of_threads_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch):
    keys, queries, found = unit(5000, 1, 48), unit(3, 2, 48), []
    monkeypatch.setattr(cpu_kernel, "_CHUNK_BYTES", 1 << 14)
    for threads in (1, 2, 3, 8):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(cpu_kernel.readout(queries, keys, beta=20.0))
    assert all(torch.equal(one, found[0]) for one in found)


def test_rows_do_not_influence_each_other():
    keys, queries = unit(300, 1, 48), unit(7, 2, 48)
    together = cpu_kernel.readout(queries, keys, beta=20.0)
    alone = torch.cat([cpu_kernel.readout(row[None], keys, beta=20.0) for row in queries])
    assert torch.equal(together, alone)


def test_few_queries_of_many_keys_take_it(monkeypatch: pytest.MonkeyPatch):
    asked = []

    def counting(queries: Tensor, keys: Tensor, **options: object) -> Tensor:
        asked.append((len(queries), len(keys)))
        return blocks._by_blocks(queries, keys, **options)

    monkeypatch.setattr(cpu_kernel, "readout", counting)
    monkeypatch.setattr(blocks, "_COMPILED_BYTES", 100 * 24 * 4)
    for rows, count in ((1, 100), (1, 99), (16, 100), (17, 100)):
        blocks.readout(unit(rows, 1, 24), unit(count, 2, 24), beta=20.0)
    blocks.readout(unit(1, 1, 24).double(), unit(200, 2, 24).double(), beta=20.0)
    assert [pair for pair in asked if pair[1] < 200] == [(1, 100), (16, 100)]


@pytest.mark.parametrize("wrong", [lambda queries, *_, **__: -queries, lambda *_, **__: 1 / 0])
def test_a_kernel_that_fails_or_errs_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, wrong: object
):
    monkeypatch.setattr(cpu_kernel, "readout", wrong)
    assert blocks._kernel("cpu", torch.device("cpu")) is blocks._by_blocks
    assert "The kernel for cpu does not work" in caplog.text


def test_without_numba_torch_does_it(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setitem(sys.modules, "horen.memory.search.cpu_kernel", None)
    assert blocks._kernel("cpu", torch.device("cpu")) is blocks._by_blocks
    assert not caplog.text


def _child(place: str) -> None:
    torch.save(cpu_kernel.readout(unit(2, 2, 48), unit(3000, 1, 48), beta=20.0), place)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_it_works_in_a_fork_of_a_process_that_used_it(tmp_path: Path):
    expected = cpu_kernel.readout(unit(2, 2, 48), unit(3000, 1, 48), beta=20.0)
    child = multiprocessing.get_context("fork").Process(target=_child, args=(str(tmp_path / "found.pt"),))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert torch.equal(torch.load(tmp_path / "found.pt", weights_only=True), expected)
