"""Write `written/` with Megatron's own builder, and what its own reader reads.

    python write.py

in an environment of its own, with torch, numpy and megatron-core 0.16.1 (without the
dependencies that it does not import here).
"""

# pyright: reportMissingImports=false
import itertools
import json
from pathlib import Path

import numpy
import torch
from megatron.core.datasets.indexed_dataset import (
    IndexedDataset,
    IndexedDatasetBuilder,
    get_bin_path,
    get_idx_path,
)

FOLDER = Path(__file__).parent / "written"
# By name: the dtype, and the documents, each of sequences; 0 is the end.
DOCUMENTS = {
    "plain": (numpy.int32, [[[5, 6, 7, 0]], [[8, 0]], [[9, 10], [11, 0]]]),
    "short": (numpy.uint16, [[[40, 41]], [[42, 0, 43, 0]], [[0]]]),
    "two_modes": (numpy.int32, [[[5, 6, 0]], [[7, 0]]]),
}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    read = {}
    for name, (dtype, documents) in DOCUMENTS.items():
        prefix, modal = str(FOLDER / name), name == "two_modes"
        builder = IndexedDatasetBuilder(get_bin_path(prefix), dtype, multimodal=modal)
        for sequences in documents:
            ids = torch.tensor([i for s in sequences for i in s])
            lengths = [len(s) for s in sequences]
            builder.add_document(ids, lengths, [0] * len(lengths) if modal else None)
        builder.finalize(get_idx_path(prefix))
        dataset = IndexedDataset(prefix, multimodal=modal)
        ends = dataset.document_indices.tolist()
        sequences = [dataset[i] for i in range(len(dataset))]
        sequences = [(s[0] if modal else s).tolist() for s in sequences]
        read[name] = [
            [i for sequence in sequences[start:stop] for i in sequence]
            for start, stop in itertools.pairwise(ends)
        ]
    (FOLDER / "read.json").write_text(json.dumps(read) + "\n")


if __name__ == "__main__":
    main()
