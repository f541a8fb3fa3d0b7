import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from runner import runtime
from runner.errors import UserError
from runner.machine import compiled_programs

_FIELDS = (
    "jax_compilation_cache_dir",
    "jax_compilation_cache_max_size",
    "jax_persistent_cache_min_compile_time_secs",
)


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """The user's cache folder, and a JAX that was told of none."""
    before = {name: getattr(jax.config, name) for name in _FIELDS}
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    compilation_cache.reset_cache()
    yield tmp_path / "home"
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture
def hits():
    events = []

    def listen(event, **_):
        events.append(event)

    jax.monitoring.register_event_listener(listen)
    yield lambda: events.count("/jax/compilation_cache/cache_hits")
    jax.monitoring.unregister_event_listener(listen)


def compile_anew(constant):
    """Compile a program of its own, as another process would."""
    compilation_cache.reset_cache()
    jax.jit(lambda x: x * constant + 1).lower(jnp.ones(3)).compile()


def programs(folder):
    return list(folder.rglob("*-cache"))


def test_a_later_start_reads_the_programs_of_the_users_folder(home, hits):
    compiled_programs.keep(runtime.Compilation())
    compile_anew(2.0)
    assert {path.parents[1] for path in programs(home)} == {home / "retort/compiled"}
    before = hits()
    compile_anew(2.0)
    assert hits() == before + 1


def test_the_least_recently_used_program_is_removed(home):
    compiled_programs.keep(runtime.Compilation())
    compile_anew(2.0)
    size = programs(home)[0].stat().st_size
    jax.config.update("jax_compilation_cache_dir", None)
    compiled_programs.keep(runtime.Compilation(cache_bytes=int(2.5 * size)))
    compile_anew(3.0)
    older, used = programs(home)[0], set(programs(home))
    compile_anew(2.0)  # read again, so that 3.0 is the older
    compile_anew(4.0)
    left = set(programs(home))
    assert sum(path.stat().st_size for path in left) <= 2.5 * size
    assert len(left) == 2 and len(left & used) == 1, older


def test_the_program_of_a_killed_writer_is_made_again(home):
    compiled_programs.keep(runtime.Compilation())
    compile_anew(2.0)
    (program,) = programs(home)
    whole = program.read_bytes()
    program.write_bytes(whole[:100])
    (program.parent / program.name.replace("-cache", "-atime")).unlink()
    jax.config.update("jax_compilation_cache_dir", None)
    compiled_programs.keep(runtime.Compilation())
    compile_anew(2.0)
    assert len(program.read_bytes()) > 100


def test_nothing_is_kept_where_the_limit_is_zero(home):
    compiled_programs.keep(runtime.Compilation(cache_bytes=0))
    assert jax.config.values["jax_compilation_cache_dir"] is None
    assert not home.exists()


def test_the_folder_that_jax_was_told_of_stands(home, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    compiled_programs.keep(runtime.Compilation())
    assert jax.config.values["jax_compilation_cache_dir"] == str(tmp_path)
    compiled_programs.keep(runtime.Compilation(cache=str(tmp_path / "named")))
    assert jax.config.values["jax_compilation_cache_dir"].startswith(
        str(tmp_path / "named")
    )


def test_a_folder_that_cannot_be_written_is_named_if_it_was_asked_for(home):
    home.write_text("a file in the way")
    compiled_programs.keep(runtime.Compilation())
    assert jax.config.values["jax_compilation_cache_dir"] is None
    with pytest.raises(UserError, match=r"--gin.compilation.cache=DIR"):
        compiled_programs.keep(runtime.Compilation(cache=str(home / "compiled")))
