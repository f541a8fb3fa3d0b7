"""Records that a server fills, beside imported ones of the same answers."""

import numpy as np
import pytest

from runner.errors import UserError
from runner.exchange.importing import Choices, import_records
from runner.records.reader import Records
from runner.served import client
from runner.teachers.base import TeacherContext
from runner.teachers.served import ServedTeacher
from tests.runner.exchange import producers, teacher
from tests.runner.served.stand_in import StandIn

NUMBERS = np.array([3, 0, 6, 1])


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)


@pytest.fixture(name="imported", scope="module")
def _imported(tmp_path_factory):
    """The same scores, imported: what a finished recording holds."""
    folder = tmp_path_factory.mktemp("imported")
    producers.vllm(folder / "answers.jsonl")
    import_records(
        "vllm", folder / "answers.jsonl", folder / "to", teacher.dataset(), Choices()
    )
    return Records.load(folder / "to")


def rows_of(url, cache, **fields):
    node = ServedTeacher(url=url, model="tiny", best=teacher.K, patience=9.0, **fields)
    context = TeacherContext(
        vocabulary=teacher.dataset().vocabulary, mesh=None, rules=(), cache=str(cache)
    )
    return node.load(context).rows_with_records(teacher.dataset())


def assert_imported(rows, imported):
    actual = rows.rows(NUMBERS)
    expected = imported.teacher_arrays(NUMBERS, teacher.dataset().rows(NUMBERS))
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array)


@pytest.mark.parametrize(
    "url",
    ["localhost:8080", "http://", "http://:8080", "http://host:80x0", "http://a b",
     "http://[::1", "ftp://host", "http://host:99999"],
)  # fmt: skip
def test_an_address_where_no_server_can_be_is_refused_at_once(url):
    with pytest.raises(ValueError, match="url must be http://HOST:PORT"):
        ServedTeacher(url=url, model="tiny")


@pytest.mark.parametrize("form", ["vllm", "llama_cpp"])
def test_served_scores_are_the_imported_ones_and_are_asked_for_once(
    form, imported, tmp_path
):
    server = StandIn(form)
    with server.running() as url:
        rows = rows_of(f"{url}/v1", tmp_path)
        assert_imported(rows, imported)
        count = len(server.asked)
        assert_imported(rows, imported)
        assert len(server.asked) == count
    if form == "vllm":  # one to find out, two for its texts, and one a row
        assert count == 2 + len(NUMBERS)
    # Another run, whose server is gone, wants what this one asked for.
    assert_imported(rows_of(url, tmp_path), imported)


def test_a_damaged_file_is_asked_for_again(imported, tmp_path):
    server = StandIn()
    with server.running() as url:
        assert_imported(rows_of(url, tmp_path), imported)
        file = sorted(tmp_path.rglob("*.record"))[1]
        content = bytearray(file.read_bytes())
        content[40] ^= 4
        file.write_bytes(content)
        count = len(server.asked)
        assert_imported(rows_of(url, tmp_path), imported)
        assert len(server.asked) == count + 3  # found out anew
        assert file.read_bytes() != content


def test_a_server_that_is_away_is_waited_for(imported, tmp_path, capfd):
    with StandIn(busy=5).running() as url:
        assert_imported(rows_of(url, tmp_path, requests=2), imported)
    lines = capfd.readouterr().err.splitlines()
    assert f"{url} does not answer (status 503); the run waits" in lines[0]
    assert any(f"{url} answers after" in line for line in lines)
    with pytest.raises(UserError, match=r"has not answered for .* start it, then"):
        patient = ServedTeacher(url=url, model="other", best=4, patience=0.05)
        context = TeacherContext(
            vocabulary=teacher.dataset().vocabulary,
            mesh=None,
            rules=(),
            cache=str(tmp_path),
        )
        rows = patient.load(context).rows_with_records(teacher.dataset())
        rows.rows(NUMBERS)


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (
            StandIn("neither"),
            "does not score given tokens: prompt_logprobs: .* scores nothing of a "
            "prompt; n_probs: .* gives no n_probs",
        ),
        (StandIn(entries=3), "prompt_logprobs: 3 entries a place where 5 were asked"),
        (
            StandIn("llama_cpp", pieces=[b"?%d" % i for i in range(400)]),
            "has another tokenizer: its id .* is b'.*', the data's",
        ),
    ],
    ids=["neither", "few", "tokenizer"],
)
def test_a_server_that_does_otherwise_than_asked_is_refused(server, message, tmp_path):
    with server.running() as url, pytest.raises(UserError, match=message) as refusal:
        rows_of(url, tmp_path).rows(NUMBERS)
    assert len(str(refusal.value).splitlines()) == 1
    assert not list(tmp_path.rglob("*.record"))


def test_a_number_out_of_range_is_refused():
    for fields, message in (
        ({"url": "localhost:8000"}, "url must be http://HOST:PORT"),
        ({"best": 0}, "best must be at least 1, got 0"),
        ({"patience": 0.0}, "patience must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            ServedTeacher(**({"url": "http://x", "model": "m"} | fields))
