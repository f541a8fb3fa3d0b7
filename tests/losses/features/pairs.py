"""Intermediates of one student's and one teacher's layer as inputs of losses."""

import numpy as np

import losses

PAIRS = ((0, 1),)


def pair_outputs(student, teacher, *, mask=None, of="hidden"):
    """`student` at layer 0, `teacher` at layer 1; one row of tokens."""
    student, teacher = (np.asarray(x, np.float32) for x in (student, teacher))
    axes = student.shape[:1]
    mask = np.ones(axes, bool) if mask is None else mask
    return losses.FullOutputs(
        batch={"targets": np.zeros(axes, np.int32), "mask": np.asarray(mask)},
        logits=np.zeros((*axes, 0), np.float32),
        intermediates={f"{of}/0": student},
        teacher=losses.TeacherOutputs(intermediates={f"{of}/1": teacher}),
    )


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)
