"""Write `distillkit.npz` with DistillKit's own code, in an environment of its own.

    PYTHONPATH=DISTILLKIT python make_distillkit.py

with torch, pydantic, numpy and a checkout of DistillKit at a61c2e7 (its
`distillkit/compression` and `missing_probability.py` are enough).
"""

# pyright: reportMissingImports=false
import json
from pathlib import Path

import numpy as np
import torch
from distillkit.compression.bitpack import pack_to_bytes
from distillkit.compression.compressor import LogprobCompressor
from distillkit.compression.config import DistributionQuantizationConfig

CONFIGS = {
    "exact": {"exact_k": 12, "exact_dtype": "float32", "residual_bins": []},
    "plain": {
        "exact_k": 3,
        "exact_dtype": "float16",
        "delta_encoding": False,
        "polynomial_terms": [0, 1, "sqrt"],
        "term_dtype": "float32",
        "residual_bins": [
            {"scale_dtype": "float16", "element_bits": 5, "num_elements": 4},
            {"scale_dtype": "bfloat16", "element_bits": 1, "num_elements": 3},
        ],
    },
    "deltas": {
        "exact_k": 4,
        "exact_dtype": "bfloat16",
        "polynomial_terms": None,
        "error_diffusion": True,
        "residual_bins": [
            {"scale_dtype": "float32", "element_bits": 8, "num_elements": 8}
        ],
    },
}

torch.manual_seed(0)
logits = torch.randn(2, 7, 1000) * 3
scores, ids = torch.log_softmax(logits, -1).topk(12)
arrays = {"scores": scores.numpy(), "ids": ids.numpy()}
for name, fields in CONFIGS.items():
    config = DistributionQuantizationConfig(d=1000, k=12, **fields)
    compressor = LogprobCompressor(config=config)
    row = compressor.compress_from_sparse(ids, scores)
    out_ids, out = compressor.decompress_to_sparse(row)
    assert (out_ids == ids).all()
    assert (pack_to_bytes(ids, 10) == row["bytepacked_indices"]).all()
    arrays |= {
        f"{name}.config": np.array(json.dumps(config.model_dump(mode="json"))),
        f"{name}.scores": row["compressed_logprobs"].numpy(),
        f"{name}.ids": row["bytepacked_indices"].numpy(),
        f"{name}.out": out.float().numpy(),
    }
np.savez_compressed(Path(__file__).parent / "distillkit.npz", **arrays)
