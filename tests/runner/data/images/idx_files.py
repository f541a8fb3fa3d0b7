"""Files of images and labels in the format of MNIST."""

import gzip
import struct

import numpy as np


def idx(array):
    """An idx file of unsigned bytes, written by the format's own page."""
    header = bytes([0, 0, 8, array.ndim])
    return header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(folder, *, count=6, zipped=False, prefix="train", classes=3):
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (count, 4, 6), np.uint8)
    labels = (np.arange(count) % classes).astype(np.uint8)
    for name, array in [("images-idx3", pixels), ("labels-idx1", labels)]:
        path = folder / f"{prefix}-{name}-ubyte"
        if zipped:
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(idx(array)))
        else:
            path.write_bytes(idx(array))
    return pixels, labels
