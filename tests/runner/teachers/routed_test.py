"""Rows that are taught by the records of the teacher which their column names."""

import numpy as np
import pytest

import losses
from runner.data.dataset import Column
from runner.errors import UserError
from runner.exchange.importing import Choices, import_records
from runner.records.reader import Records
from runner.teachers.base import TeacherContext
from runner.teachers.combined import EnsembleTeacher
from runner.teachers.offline import OfflineTeacher
from runner.teachers.online import OnlineTeacher
from runner.teachers.routed import RoutedTeacher
from runner.teachers.scheduled import ScheduledTeacher
from runner.teachers.served import ServedTeacher
from tests.runner.exchange import producers, teacher


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    """Records of all rows, of some segments alone, and of fewer entries."""
    folder = tmp_path_factory.mktemp("routed")
    for name, lines, choices in (
        ("whole", slice(None), Choices()),
        ("part", slice(4, None), Choices(partial=True)),
        ("few", slice(None), Choices(entries=2)),
    ):
        source = folder / f"{name}.jsonl"
        answers = map(producers.vllm_answer, producers.sequences()[lines])
        producers.write_lines(source, answers)
        data = teacher.dataset()
        import_records("vllm", source, folder / name, data, choices)
    return folder


def loaded(folder, teachers):
    members = {
        key: OfflineTeacher(records=str(folder / name))
        for key, name in teachers.items()
    }
    node = RoutedTeacher(column="who", teachers=members)
    node.check()
    context = TeacherContext(
        vocabulary=teacher.dataset().vocabulary, mesh=None, rules=()
    )
    return node.load(context)


def test_combined_records_are_those_of_each_rows_teacher(folder):
    """A router beside other records, in an ensemble or a schedule, is read by row."""
    names = {7: "whole", 8: "part"}
    stored = {key: OfflineTeacher(records=str(folder / x)) for key, x in names.items()}
    routed = RoutedTeacher(column="who", teachers=stored)
    entries = [8, 7, 8, 8, 7, 8, 8, 7]
    data = with_column(entries)
    context = TeacherContext(
        vocabulary=data.vocabulary, mesh=None, rules=(), num_steps=2
    )
    numbers = np.arange(len(data))
    own = {
        key: Records.load(folder / x).teacher_arrays(numbers, data.rows(numbers))
        for key, x in names.items()
    }
    known = np.where((np.array(entries) == 8)[:, None], own[8]["teacher/known"], True)
    for node in (
        EnsembleTeacher(teachers=[stored[7], routed]),
        ScheduledTeacher(teachers=[stored[7], routed], from_steps=[0, 1]),
    ):
        rows = node.load(context).rows_with_records(data).rows(numbers)
        np.testing.assert_array_equal(rows["teacher/known"], known)
        for key in names:
            mine = np.array(entries) == key
            ids = own[key]["teacher/ids16"][mine]
            np.testing.assert_array_equal(rows["teacher/1/ids16"][mine], ids)


def with_column(values):
    column = Column(values=np.array(values, np.int32), by="row")
    return teacher.dataset().with_columns({"who": column})


def test_a_router_to_one_teacher_is_that_teacher_bit_for_bit(folder):
    data = with_column([7] * 8)
    rows = loaded(folder, {7: "whole", 8: "whole"}).rows_with_records(data)
    numbers = np.array([3, 0, 6])
    own = Records.load(folder / "whole").teacher_arrays(numbers, data.rows(numbers))
    routed = rows.rows(numbers)
    assert set(routed) == set(data.rows(numbers)) | set(own)
    for name, array in own.items():
        np.testing.assert_array_equal(routed[name], array)
        assert routed[name].dtype == array.dtype


def test_each_row_has_the_record_of_its_own_teacher(folder):
    names = ["math", "code", "code", "math", "code", "math", "math", "code"]
    data = with_column([losses.name_id(x) for x in names])
    routed = loaded(folder, {"math": "whole", "code": "part"})
    assert routed.stored.partial and routed.covers(data)
    numbers = np.arange(8)[::-1]
    arrays = routed.rows_with_records(data).rows(numbers)
    for place, number in enumerate(numbers.tolist()):
        name = {"math": "whole", "code": "part"}[names[number]]
        rows = data.rows(np.array([number]))
        own = Records.load(folder / name).teacher_arrays(np.array([number]), rows)
        own.setdefault("teacher/known", np.ones(rows["mask"].shape, bool))
        for key, array in own.items():
            np.testing.assert_array_equal(arrays[key][place], array[0])


def test_what_cannot_be_routed_is_refused(folder):
    with pytest.raises(UserError, match=r"row 2: 'who' is 9, which is no teacher's"):
        data = with_column([7, 7, 9, 7, 7, 7, 7, 7])
        rows = loaded(folder, {7: "whole"}).rows_with_records(data)
        rows.rows(np.arange(8))
    with pytest.raises(UserError, match=r"teachers\[8\]: entries of its records is 2"):
        loaded(folder, {7: "whole", 8: "few"})
    with pytest.raises(UserError, match="the data has no column 'who'"):
        loaded(folder, {7: "whole"}).rows_with_records(teacher.dataset())
    with pytest.raises(ValueError, match="at least one teacher"):
        RoutedTeacher(column="who", teachers={})
    both = {0: OfflineTeacher(records="y"), 1: OnlineTeacher(checkpoint="x")}
    mixed = RoutedTeacher(column="who", teachers=both)
    with pytest.raises(UserError, match=r"teachers\[1\] is OnlineTeacher, and others"):
        mixed.check()
    served = ServedTeacher(url="http://localhost:1", model="m", best=2)
    records = OfflineTeacher(records=str(folder / "few"))
    RoutedTeacher(column="who", teachers={0: served, 1: records}).check()
