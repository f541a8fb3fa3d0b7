"""Write `texts.arrayrecord` as MaxText's converters do, and what its pipeline reads.

    python array_record_write.py

in an environment of its own, with tensorflow-cpu 2.21.0 and array_record 0.8.3: MaxText
parses a record by `tf.io.parse_example`, with a feature of type string for its text.
"""

# pyright: reportMissingImports=false, reportMissingModuleSource=false
import json
from pathlib import Path

import tensorflow as tf
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

PATH = Path(__file__).parent / "texts.arrayrecord"
TEXTS = ["the cat sat on the mat", "naïve café — 東京 🙂", "x" * 300, "two\nlines\n"]


def main() -> None:
    writer = ArrayRecordWriter(str(PATH), "group_size:1")
    for number, text in enumerate(TEXTS):
        features = {
            "text": tf.train.BytesList(value=[text.encode()]),
            "tags": tf.train.BytesList(value=[b"a", b"b"]),
            "url": tf.train.BytesList(value=[f"https://{number}".encode()]),
        }
        features = {
            name: tf.train.Feature(bytes_list=x) for name, x in features.items()
        }
        features["score"] = tf.train.Feature(
            float_list=tf.train.FloatList(value=[number / 2])
        )
        example = tf.train.Example(features=tf.train.Features(feature=features))
        writer.write(example.SerializeToString())
    writer.close()
    reader = ArrayRecordReader(str(PATH))
    spec = {name: tf.io.FixedLenFeature([], tf.string) for name in ("text", "url")}
    records = reader.read(0, reader.num_records())
    rows = [tf.io.parse_single_example(record, spec) for record in records]
    read = [{name: x.numpy().decode() for name, x in row.items()} for row in rows]
    PATH.with_suffix(".json").write_text(json.dumps(read) + "\n")


if __name__ == "__main__":
    main()
