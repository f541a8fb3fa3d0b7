"""The training step as it is handed to XLA for an NVIDIA GPU, which is not here."""

import functools
import re

import fiddle as fdl
import jax
from jax._src.cudnn import fused_attention_stablehlo as library

import models
from configs import dense
from models import sharding
from runner import data, runtime
from runner.machine.topology import Planned

LENGTH, LAYERS = 256, 2


def test_a_bfloat16_step_lowers_with_attention_by_cudnn(monkeypatch):
    monkeypatch.setattr(sharding, "platform", lambda: "cuda")
    monkeypatch.setattr(library, "check_cudnn_version", lambda: 91002)
    cfg = dense.config.as_buildable()
    cfg.evaluations, cfg.batch_size = [], 2
    cfg.train_data = fdl.Config(data.PlannedTokens, 4096, LENGTH)
    cfg.student = functools.partial(
        models.Transformer,
        vocab_size=4096,
        dim=64,
        num_layers=LAYERS,
        num_heads=2,
        num_kv_heads=1,
        head_dim=32,
        dtype="bfloat16",
    )
    planned = Planned(jax.devices()[:1], None)
    setup = fdl.build(cfg).prepare(runtime.Runtime(), planned=planned)
    traced = setup.step.compiled.trace(*setup.abstract_arguments())
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    calls = re.findall(r"custom_call @([\w$.]+)", text)
    assert sorted(calls) == LAYERS * ["__cudnn$fmhaScaleBiasSoftmax"] + LAYERS * [
        "__cudnn$fmhaScaleBiasSoftmaxBackward"
    ]
    # Parameters stay float32, and the state with its two moments is donated.
    params = jax.tree.leaves(setup.step.state.params)
    assert {x.dtype.name for x in params} == {"float32"}
    assert text.count("tf.aliasing_output") > 3 * len(params)
