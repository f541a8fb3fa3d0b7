"""ArrayRecord files of texts: `array_record_write.py` wrote one with TensorFlow."""

import json
import shutil
from pathlib import Path

import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from runner.data import ArrayRecords, Chat, TokenizerFile
from runner.errors import UserError

WRITTEN = Path(__file__).parent / "texts.arrayrecord"
READ = json.loads(WRITTEN.with_suffix(".json").read_text())


def test_texts_are_those_that_tensorflow_parses():
    records = ArrayRecords(files=[str(WRITTEN)])
    documents = list(records)
    assert [document.text for document in documents] == [row["text"] for row in READ]
    assert documents[2].name == "texts.arrayrecord:3"
    values = [record.values for record in records.records(("text", "url"))]
    assert values == READ
    assert next(records.records()).values["tags"] == ["a", "b"]


def written(path, *records):
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()
    return ArrayRecords(files=[str(path)])


def example(**texts):
    """A `tf.train.Example` of texts."""
    content = b""
    for name, text in texts.items():
        feature = field(2, field(1, field(1, text)))
        content += field(1, field(1, name.encode()) + feature)
    return field(1, content)


def field(number, content):
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def test_records_may_be_the_texts_themselves(tmp_path):
    written(tmp_path / "a", "é".encode(), b"two")
    documents = list(ArrayRecords(files=[str(tmp_path / "a")], column=""))
    assert [(d.name, d.text) for d in documents] == [("a:1", "é"), ("a:2", "two")]


def test_conversations_are_read_as_json(tmp_path):
    messages = [{"role": "user", "content": "a"}]
    records = written(tmp_path / "a", example(messages=json.dumps(messages).encode()))
    [record] = records.records(("messages", "prompt"))
    assert json.loads(record.values["messages"]) == messages
    Chat(records, TokenizerFile(__file__), template="plain").check()


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([b"plain text"], r"record 1: .*where records are texts themselves: column=''"),
        ([example(txt=b"a")], r"record 1: no field 'text'"),
        ([example(text=b"\xff")], "record 1: not UTF-8 text"),
        ([], "holds no records: it is empty or cut short"),
    ],
)
def test_what_is_no_text_is_refused_in_a_line(tmp_path, records, message):
    with pytest.raises(UserError, match=message) as error:
        list(written(tmp_path / "a", *records))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_a_file_that_is_cut_is_refused(tmp_path, share):
    path = Path(shutil.copy(WRITTEN, tmp_path))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=r"texts.arrayrecord (holds no|is not a whole)"):
        list(ArrayRecords(files=[str(path)]))
