import jax
import jax.numpy as jnp
import pytest

from runner import main
from runner.errors import UserError
from runner.train import host_memory
from tests.runner import runs

SIDE = 1000  # of float32 matrices of 4 MB each


@jax.jit
def cube(x):
    return (x @ x) @ x


MATRIX = jax.ShapeDtypeStruct((SIDE, SIDE), jnp.float32)


def test_a_program_that_is_too_large_is_refused_with_the_bytes_of_both(monkeypatch):
    analysis = cube.lower(MATRIX).compile().memory_analysis()
    assert analysis.temp_size_in_bytes >= 4 * SIDE**2  # the square
    each = 8_000_000 + analysis.temp_size_in_bytes
    wanted = jax.local_device_count() * each
    monkeypatch.setattr(host_memory, "total", lambda: wanted - 1)
    with pytest.raises(UserError) as error:
        host_memory.refuse_what_is_too_large(cube, (MATRIX,))
    line = f"a step takes {wanted:,} bytes, and this machine has {wanted - 1:,}; --gin"
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    monkeypatch.setattr(host_memory, "total", lambda: wanted)
    host_memory.refuse_what_is_too_large(cube, (MATRIX,))


def test_what_surely_fits_is_not_compiled(monkeypatch):
    def fails(*_, **__):
        raise AssertionError("compiled")

    monkeypatch.setattr(jax.stages.Traced, "lower", fails)
    monkeypatch.setattr(host_memory, "total", lambda: 2**40)
    host_memory.refuse_what_is_too_large(cube, (MATRIX,))


def test_arrays_are_counted_once_and_bodies_of_loops_too():
    def program(x):
        return jax.lax.fori_loop(0, 7, lambda _, y: y + x, x)

    ours = host_memory._written(jax.make_jaxpr(program)(MATRIX).jaxpr)
    x = 4 * SIDE**2
    # The input and the result; of the body, the input twice and the sum; counters.
    assert 5 * x <= ours < 6 * x + 1000


def test_memory_and_swap_or_the_limit_of_a_container(tmp_path, monkeypatch):
    whole = host_memory.total()
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(host_memory, "_GROUPS", (str(limit),))
    free = host_memory.total()
    assert whole is not None and free is not None and free >= whole > 2**28
    for text, wanted in (("max\n", free), ("1000000\n", 1_000_000)):
        limit.write_text(text)
        assert host_memory.total() == wanted


@pytest.mark.slow
def test_a_row_that_no_machine_holds_is_one_line(tmp_path, monkeypatch, capsys):
    runner = runs.Runner(tmp_path)
    monkeypatch.setattr(host_memory, "total", lambda: 10_000_000)
    arguments = [*runner.flags, f"--workdir={tmp_path / 'run'}"]
    assert main.main(["runner", *arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("runner: out of memory: a step takes ")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
