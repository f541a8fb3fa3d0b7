"""Records in other trainers' forms, and back again."""

from typing import Any

import numpy as np
import pytest

from runner.errors import UserError
from runner.exchange.exporting import export_records
from runner.exchange.importing import Choices, import_records
from runner.files import tf_example
from runner.records.reader import Records
from tests.runner.exchange import producers, teacher


@pytest.fixture(name="records", scope="module")
def _records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    producers.vllm(folder / "a.jsonl")
    data, to = teacher.dataset(), folder / "to"
    import_records("vllm", folder / "a.jsonl", to, data, Choices())
    return Records.load(to)


@pytest.mark.parametrize("form", ["maxtext", "distillkit"])
def test_exported_records_come_back_as_they_were(form, records, tmp_path):
    loss = export_records(form, records.directory, tmp_path / "out")
    assert bool(loss) == (form == "maxtext")
    data = teacher.dataset()
    import_records(form, tmp_path / "out", tmp_path / "back", data, Choices())
    back, rows = Records.load(tmp_path / "back"), teacher.rows()
    numbers, mask = np.arange(len(data)), rows["mask"]
    before, after = (x.teacher_arrays(numbers, rows) for x in (records, back))
    assert set(after) == {x for x in before if not loss or "log_" not in x}
    for name, array in after.items():
        if "log_" in name:  # entries in steps, and a rest of 1 less their sum
            np.testing.assert_allclose(array[mask], before[name][mask], atol=5e-4)
        else:
            np.testing.assert_array_equal(array[mask], before[name][mask], name)
    assert sorted(x.name for x in tmp_path.iterdir()) == ["back", "out"]


def test_an_encoded_example_is_what_protobuf_writes_and_reads():
    random = np.random.default_rng(0)
    arrays = {
        "inputs": np.array([0, 1, 127, 128, 16384, 2**62, -1]),
        "top_k_logits": random.normal(size=40).astype(np.float32),
        "targets": random.integers(0, 1 << 20, 50),
    }
    coded = tf_example.encode(arrays)
    message: Any = producers.example_class()()
    message.ParseFromString(coded)
    read = message.features.feature
    np.testing.assert_array_equal(read["inputs"].int64_list.value, arrays["inputs"])
    np.testing.assert_array_equal(
        np.float32(read["top_k_logits"].float_list.value), arrays["top_k_logits"]
    )
    assert len(coded) == len(producers.example(arrays))
    for name, array in tf_example.decode(coded).items():
        np.testing.assert_array_equal(array, arrays[name])


def test_what_a_form_cannot_hold_is_refused(records, tmp_path):
    source = records.directory
    for form, to, message in (
        ("maxtex", tmp_path / "a", "did you mean 'maxtext'?"),
        ("maxtext", tmp_path, "exists; exported records want a new directory"),
    ):
        with pytest.raises(UserError, match=message):
            export_records(form, source, to)
    producers.maxtext(tmp_path / "logits")
    to, data = tmp_path / "to", teacher.dataset()
    import_records("maxtext", tmp_path / "logits", to, data, Choices())
    with pytest.raises(UserError, match="knows no log-normalizer at temperature 1"):
        export_records("distillkit", to, tmp_path / "b")
    assert sorted(x.name for x in tmp_path.iterdir()) == ["logits", "to"]
