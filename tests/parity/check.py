"""Distance of each fixture's logits from those of `transformers`.

make parity
"""

import tempfile
from pathlib import Path

from models import pretrained
from tests.models.pretrained import inputs, tables


def main() -> None:
    wrong = 0
    print(f"{'family':24} {'safetensors':>11} {'gguf':>9}   (float32, at most 1e-4)")
    for family in tables.FAMILIES:
        settings = tables.UNSAID.get(family)
        with tempfile.TemporaryDirectory() as folder:
            models = [pretrained.open_model(tables.FIXTURES / family).load()]
            if family in tables.GGUF_FAMILIES:
                file = inputs.write(family, Path(folder))
                models.append(pretrained.open_model(file, settings=settings).load())
            differences = [tables.largest_difference(model, family) for model in models]
        wrong += max(differences) >= tables.TOLERANCE
        print(f"{family:24} " + " ".join(f"{value:11.1e}" for value in differences))
    if wrong:
        raise SystemExit(f"{wrong} families differ")


if __name__ == "__main__":
    main()
