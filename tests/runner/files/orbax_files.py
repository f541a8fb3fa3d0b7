"""Files of a checkpoint that orbax and tensorstore read, as a stranger may edit them.

The manifest is sealed again after each edit, so that no digest tells of it.
"""

import contextlib
import shutil
from pathlib import Path
from typing import Any

import jax
import tensorstore

from runner.checkpoint import manifest
from runner.checkpoint.checkpoints import Checkpoints
from tests.runner.states import array_file

STEP = 4
METADATA = (
    *("_METADATA", "_CHECKPOINT_METADATA", "_sharding", "array_metadatas/process_0"),
    *("manifest.ocdbt", "ocdbt.process_0/manifest.ocdbt"),
)
ZARR = "zarray.json"  # beside the checkpoint: the metadata of one array in it
ARRAY = "params/student/blocks/0/attention/query"
_KEY = f"{ARRAY}/.zarray"


def examples(saved: Path, directory: Path) -> list[tuple[str, Path, str]]:
    """Name, folder and file of each kind; folders are those of checkpoints."""
    folder = directory / "checkpoints"
    step = f"{STEP:08d}"
    shutil.copytree(saved / "checkpoints" / step, folder / step)
    (folder / ZARR).write_bytes(_store(folder / step).read(_KEY).result().value)
    arrays = array_file(folder / step).relative_to(folder / step)
    named = [(name, folder, f"{step}/{name}") for name in (*METADATA, str(arrays))]
    return [*named, (".zarray", folder, ZARR)]


def read(folder: Path) -> None:
    """Seal the checkpoint of a folder anew, and restore it in part and whole."""
    directory = folder / f"{STEP:08d}"
    leaves = manifest.read(directory, step=STEP).leaves
    with contextlib.suppress(ValueError):  # edited so that it cannot be opened
        _store(directory).write(_KEY, (folder / ZARR).read_bytes()).result()
    reseal(directory)
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    asked = {
        path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=one)
        for path, leaf in leaves.items()
    }
    with Checkpoints(folder, keep=1) as checkpoints:
        checkpoints.restore_part(STEP, {ARRAY: asked[ARRAY]})
        checkpoints.restore(STEP, asked)


def reseal(directory: Path) -> None:
    """Make the manifest's digests agree with the files."""
    leaves = manifest.read(directory, step=STEP).leaves
    (directory / manifest.NAME).unlink()
    manifest.seal(directory, step=STEP, leaves=leaves)


def _store(directory: Path) -> Any:
    """The checkpoint's arrays, and their metadata, by key."""
    spec = {"driver": "ocdbt", "base": f"file://{directory}/"}
    return tensorstore.KvStore.open(spec).result()
