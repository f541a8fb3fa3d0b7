import mmap
from pathlib import Path

import numpy as np
import pytest

from runner.data import mapped


@pytest.mark.parametrize("size", [0, 1, mapped._WINDOW, mapped._WINDOW + 5])
def test_the_pieces_are_the_content(size):
    content = np.arange(size, dtype=np.uint8)
    assert b"".join(mapped.windows(content)) == content.tobytes()
    assert b"".join(mapped.windows(content.data)) == content.tobytes()


def test_a_view_of_a_mapped_file_leaves_memory(tmp_path):
    path, size = tmp_path / "file", 3 * mapped._WINDOW
    content = np.random.default_rng(0).integers(0, 2**32, size // 4, np.uint32)
    path.write_bytes(content.tobytes())
    with path.open("rb") as file:
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    view = np.frombuffer(memoryview(whole)[20:], np.uint16, count=size // 2 - 12)[2:]
    before, most, at = resident(), 0.0, 24
    for window in mapped.windows(view):
        assert window == whole[at : at + len(window)]
        at, most = at + len(window), max(most, resident() - before)
    assert at == size - 4
    assert most < 2.5 * mapped._WINDOW / 1e6
    assert resident() - before < 1


def resident():
    """Megabytes of mapped files that are in this process's memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(x.split()[1]) / 1e3 for x in lines if x.startswith("RssFile"))
