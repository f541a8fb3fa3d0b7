"""Tiny models as `.gguf` files, by llama.cpp's own converter.

    python tests/parity/convert.py SOURCES

Runs in the environment of `make parity`, with the library gguf. SOURCES holds
`conversion/` and `gguf-py/` of llama.cpp, as in `vendor/llama.cpp` of the sdist of
llama-cpp-python 0.3.36. Writes `converted.gguf` beside the fixtures below; tokenizers,
which they have none of, are left out. Entries that published files of a family have and
transformers 5 no longer writes are given back first: the converter asks for them.
"""

# Torch and the converter are not where the linters look.
# pyright: reportMissingImports=false

import json
import shutil
import sys
import tempfile
from pathlib import Path

FIXTURES = Path(__file__).parents[1] / "models" / "pretrained" / "fixtures"
OLDER = {
    "gpt2": {"n_ctx": 64},
    "gpt_neox": {"rotary_pct": 0.5},
    "starcoder2": {},
    "deepseek_v3": {"scoring_func": "sigmoid"},
    "gpt_oss": {},
    "phi3_longrope": {},
}


def main(sources: Path) -> None:
    sys.path[:0] = [str(sources / "gguf-py"), str(sources)]
    import conversion
    import gguf

    for family, entries in OLDER.items():
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / family
            shutil.copytree(FIXTURES / family, copy)
            (copy / "expected.safetensors").unlink()
            config = json.loads((copy / "config.json").read_text()) | entries
            kind = conversion.get_model_class(config["architectures"][0])
            fields = {"model_arch": kind.model_arch, "set_vocab": end_alone}
            of_family = type(kind.__name__, (kind,), fields)
            file = FIXTURES / family / "converted.gguf"
            all_f32 = gguf.LlamaFileType.ALL_F32
            of_family(copy, all_f32, file, hparams=config).write()


def end_alone(model) -> None:
    model.gguf_writer.add_eos_token_id(2)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
