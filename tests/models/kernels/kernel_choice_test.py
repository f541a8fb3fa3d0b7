"""Which kernel of attention serves which rows on which device, and its name."""

from types import SimpleNamespace

import jax
import pytest
from jax._src.cudnn import fused_attention_stablehlo as library

from models import masks, sharding
from models.masks import Heads, Kernel
from tests.models.states import transformer


@pytest.mark.parametrize(
    ("platform", "length", "fields", "expected"),
    [
        ("cpu", 128, {}, "whole"),
        ("cpu", 129, {}, "blocks"),
        ("tpu", 128, {}, "whole"),
        ("tpu", 2048, {"soft_cap": 50.0, "sinks": True}, "splash"),
        ("cuda", 2048, {"dtype": "bfloat16"}, "cudnn"),
        ("gpu", 2048, {"dtype": "bfloat16"}, "whole"),
        ("cuda", 2048, {}, "whole"),
        ("cuda", 8192, {}, "blocks"),
        ("cuda", 2048, {"dtype": "bfloat16", "soft_cap": 50.0}, "whole"),
        ("cuda", 2048, {"dtype": "float16", "sinks": True}, "whole"),
        ("cuda", 2048, {"dtype": "bfloat16", "width": 160}, "whole"),
        ("cuda", 2048, {"dtype": "bfloat16", "width": 36}, "whole"),
        ("cuda", 2047, {"dtype": "bfloat16"}, "whole"),
        ("cuda", 16384, {"dtype": "bfloat16"}, "blocks"),
    ],
)
def test_the_kernel_is_that_of_the_platform(
    monkeypatch, platform, length, fields, expected
):
    monkeypatch.setattr(sharding, "platform", lambda: platform)
    heads = Heads(**({"width": 64, "dtype": "float32"} | fields))
    assert masks.kernel(length, heads).name == expected


@pytest.mark.parametrize(
    ("platform", "capability", "expected"),
    [
        ("cpu", None, "cpu"),
        ("tpu", None, "tpu"),
        ("gpu", "7.5", "gpu"),
        ("gpu", "8.0", "cuda"),
        ("gpu", "12.0", "cuda"),
        ("gpu", "gfx90a", "gpu"),
    ],
)
def test_only_nvidias_gpus_since_ampere_are_cuda(
    monkeypatch, platform, capability, expected
):
    device = SimpleNamespace(platform=platform, compute_capability=capability)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert sharding.platform() == expected


def test_kernels_are_named():
    assert str(Kernel("blocks", 128)) == "attention in blocks of 128"
    model = transformer(dtype="bfloat16", head_dim=8)
    assert model.trunk_form(2048, "cuda") == "attention by cuDNN"
    assert model.trunk_form(2048, "tpu") == "attention by splash attention"


@pytest.mark.parametrize(
    ("version", "expected"),
    [(90800, "cudnn"), (91000, "whole"), (91001, "whole"), (91002, "cudnn")],
)
def test_a_cudnn_that_refuses_attention_is_not_asked(monkeypatch, version, expected):
    monkeypatch.setattr(library, "check_cudnn_version", lambda: version)
    heads = Heads(width=64, dtype="bfloat16")
    assert masks.kernel(2048, heads, "cuda").name == expected
