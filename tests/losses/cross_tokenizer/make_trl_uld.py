"""Values of TRL's own `ULDLoss`, for tokens of two vocabularies over the same text.

    python -m venv venv && venv/bin/pip install torch==2.13.0 trl==1.16.0
    venv/bin/python tests/losses/cross_tokenizer/make_trl_uld.py

Writes `trl_uld.npz` beside this file: float32 logits of both sides, ids, byte offsets,
and the loss of each setting.
"""

# Torch and trl are in an environment of their own, which the linters do not see.
# pyright: reportMissingImports=false

import types
from pathlib import Path

import numpy as np
import torch
from trl.experimental.gold.gold_trainer import ULDLoss

VOCABULARIES = {
    "student": ["a", "b", "c", "ab", "d", "e", "bc", "<s>", "</s>", "x", "y"],
    "teacher": ["</s>", "a", "b", "c", "cd", "de", "e", "<s>", "abc"],
}
# A prompt of one token, then text; the last token is the end, which TRL skips.
STUDENT = [["<s>", "ab", "c", "d", "e", "a", "</s>"], ["<s>", "a", "bc", "d", "e"]]
TEACHER = [["<s>", "abc", "de", "a", "</s>"], ["<s>", "a", "b", "cd", "e", "</s>"]]
STUDENT[1].append("</s>")
# Of another length each: the rest is padding.
LENGTH = {"student": 8, "teacher": 7}
SETTINGS = {
    "uld": {},
    "positions": {"use_extended_uld": False},
    "hybrid": {"uld_use_hybrid_loss": True},
    "hybrid_forward": {"uld_use_hybrid_loss": True, "beta": 0.0},
    "hybrid_reverse": {"uld_use_hybrid_loss": True, "beta": 1.0},
    "hybrid_weighted": {
        "uld_use_hybrid_loss": True,
        "beta": 0.3,
        "uld_hybrid_matched_weight": 0.7,
        "uld_hybrid_unmatched_weight": 1.5,
    },
}


def loss(**changes) -> ULDLoss:
    config = types.SimpleNamespace(
        **{
            "uld_crossentropy_weight": 0.0,
            "uld_distillation_weight": 1.0,
            "uld_student_temperature": 1.0,
            "uld_teacher_temperature": 1.0,
            "uld_skip_student_eos": True,
            "uld_skip_teacher_eos": True,
            "use_extended_uld": True,
            "uld_token_merge_strategy": "bayesian",
            "uld_use_hybrid_loss": False,
            "uld_hybrid_matched_weight": None,
            "uld_hybrid_unmatched_weight": None,
            "beta": 0.5,
        }
        | changes
    )
    sides = [
        types.SimpleNamespace(
            get_vocab=lambda names=names: dict(zip(names, range(99), strict=False))
        )
        for names in VOCABULARIES.values()
    ]
    return ULDLoss(config, *sides)


def arrays(side: str, rows: list[list[str]]) -> dict[str, np.ndarray]:
    names, length = VOCABULARIES[side], LENGTH[side]
    ids = np.zeros((len(rows), length), np.int64)
    labels = np.full_like(ids, -100)
    offsets = np.zeros((*ids.shape, 2), np.int64)
    for row, tokens in enumerate(rows):
        end = 0
        for place, token in enumerate(tokens):
            ids[row, place] = names.index(token)
            begin, end = end, end + len(token) * (not token.startswith("<"))
            offsets[row, place] = begin, end
        labels[row, 1 : len(tokens)] = ids[row, 1 : len(tokens)]
    rng = np.random.default_rng(len(names))
    logits = rng.normal(size=(*ids.shape, len(names)), scale=2.0).astype(np.float32)
    return {"ids": ids, "labels": labels, "offsets": offsets, "logits": logits}


def main() -> None:
    sides = {"student": arrays("student", STUDENT)}
    sides["teacher"] = arrays("teacher", TEACHER)
    of = {name: {k: torch.tensor(x) for k, x in a.items()} for name, a in sides.items()}
    values = {}
    for name, changes in SETTINGS.items():
        for rows in (slice(0, 1), slice(1, 2), slice(0, 2)):
            student, teacher = (
                {k: x[rows] for k, x in of[side].items()} for side in of
            )
            value = loss(**changes)(
                student["logits"],
                teacher["logits"],
                student["labels"],
                teacher["labels"],
                student["ids"],
                teacher["ids"],
                student["offsets"],
                teacher["offsets"],
            )
            values[f"{name}/{rows.start}{rows.stop}"] = value.numpy()
    stored = {f"{s}/{k}": x for s, a in sides.items() for k, x in a.items()} | values
    np.savez_compressed(Path(__file__).parent / "trl_uld.npz", **stored)
    print({name: float(x) for name, x in values.items()})


if __name__ == "__main__":
    main()
