"""Models of ours as published files: `config.json` and safetensors, or `.gguf`.

choice = writing.for_folder(model)        # refuses what the format cannot say
writing.folder.write(path, choice, arrays, dtype="bfloat16", context=2048)
"""

from models.pretrained.writing import folder, gguf_writer
from models.pretrained.writing.choice import Choice, for_folder, for_gguf
from models.pretrained.writing.rounding import DTYPES

__all__ = ["DTYPES", "Choice", "folder", "for_folder", "for_gguf", "gguf_writer"]
