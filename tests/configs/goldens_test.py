"""Every config against its golden: all that its graph says, line by line.

After an intended change: `pytest tests/configs --rewrite_goldens`, then read the diff.
"""

from pathlib import Path

import pytest

from runner.graph import describe, read

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
NAMES = sorted(
    str(path.relative_to(ROOT / "configs").with_suffix(""))
    for path in (ROOT / "configs").rglob("*.py")
)


def compare(path, text, *, rewrite):
    """Fails with the lines that differ, or writes them."""
    if rewrite:
        path.write_text(text)
    old = path.read_text() if path.exists() else ""
    changes = describe.changes(old, text)
    if changes:
        shown = "\n".join(changes)
        pytest.fail(
            f"{path.name} is not what its config says:\n{shown}\n"
            "If that is intended: pytest tests/configs --rewrite_goldens",
            pytrace=False,
        )


@pytest.fixture
def rewrite(request):
    return request.config.getoption("--rewrite_goldens", default=False)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_is_its_golden(name, rewrite):
    cfg, _ = read.read(str(ROOT / "configs" / f"{name}.py"))
    compare(GOLDEN / f"{name}.txt", describe.text(cfg), rewrite=rewrite)


def test_no_golden_has_lost_its_config(rewrite):
    lost = [path for path in GOLDEN.glob("*.txt") if path.stem not in NAMES]
    if rewrite:
        for path in lost:
            path.unlink()
        lost = []
    assert lost == []


def test_a_mismatch_shows_the_lines_that_differ(tmp_path):
    golden = tmp_path / "a.txt"
    compare(golden, "<root>: A\nx: 1\ny: 2\n", rewrite=True)
    compare(golden, "<root>: A\nx: 1\ny: 2\n", rewrite=False)
    with pytest.raises(pytest.fail.Exception) as failure:
        compare(golden, "<root>: A\nx: 1\ny: 3\n", rewrite=False)
    assert "- y: 2\n+ y: 3\n" in str(failure.value) and "x: 1" not in str(failure.value)
