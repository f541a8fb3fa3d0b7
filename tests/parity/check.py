"""How far the logits of each fixture are from those of `transformers`.

make parity
"""

import tempfile
from pathlib import Path

from models import pretrained
from tests.models.pretrained import examples, gguf_examples
from tests.models.pretrained.gguf_test import CONVERTED


def main() -> None:
    wrong = 0
    print(f"{'family':24} {'safetensors':>11} {'gguf':>9}   (float32, at most 1e-4)")
    for family in examples.FAMILIES:
        paths = [examples.FIXTURES / family]
        with tempfile.TemporaryDirectory() as folder:
            if family in CONVERTED:
                paths.append(gguf_examples.write(family, Path(folder)))
            models = [pretrained.open(path).load() for path in paths]
            apart = [examples.largest_difference(model, family) for model in models]
        wrong += max(apart) >= examples.TOLERANCE
        print(f"{family:24} " + " ".join(f"{value:11.1e}" for value in apart))
    if wrong:
        raise SystemExit(f"{wrong} families differ")


if __name__ == "__main__":
    main()
