import json

import pytest

from runner.data import Document, JsonLines, TextFiles
from runner.data.documents.document import digest, hashed_once
from runner.errors import UserError


def names(files):
    return [document.name for document in TextFiles(files=[str(f) for f in files])]


def test_a_directory_is_read_in_order_and_below_it_without_hidden_files(tmp_path):
    for name in ("b.txt", "a/z.md", ".git/config", "a/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert names([tmp_path]) == ["a/z.md", "b.txt"]


def test_a_glob_matches_and_a_path_stands_for_itself(folder):
    assert names([folder / "[ab].txt", folder / "d.txt"]) == ["a.txt", "b.txt", "d.txt"]
    assert names([folder.parent / "**" / "c.txt"]) == ["texts/c.txt"]


def test_text_is_read_as_it_is(folder):
    texts = {d.name: d.text for d in TextFiles(files=[str(folder)])}
    assert "\r\n\ttabs" in texts["b.txt"]
    assert texts["e.txt"] == ""


@pytest.mark.parametrize("chunk", [1, 3, 1 << 20])
def test_a_separator_makes_many_documents_of_a_file(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr("runner.data.documents.text_files._CHUNK", chunk)
    path = tmp_path / "a.txt"
    path.write_text("é one<|end|>\n\n<|end|>two <|\n<|end|>three")
    documents = list(TextFiles(files=[str(path)], separator="<|end|>"))
    assert documents == [
        Document("a.txt:1", "é one"),
        Document("a.txt:3", "two <|\n"),
        Document("a.txt:4", "three"),
    ]
    path.write_bytes(b"one\n\n\xff")
    with pytest.raises(UserError, match=r"a.txt, document 2 is not UTF-8 text: byte 0"):
        list(TextFiles(files=[str(path)], separator="\n\n"))


def test_json_lines_are_documents_named_by_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "é"}\n\n{"text": "b", "id": 3}\n')
    assert list(JsonLines(files=[str(path)])) == [
        Document(name="a.jsonl:1", text="é"),
        Document(name="a.jsonl:3", text="b"),
    ]


def test_the_digest_sees_names_contents_order_and_where_texts_end():
    a, b = Document("a", "xy"), Document("b", "z")
    different = [
        [a, b],
        [b, a],
        [Document("c", "xy"), b],
        [Document("a", "xyz"), Document("b", "")],
        [Document("a", "x"), Document("b", "yz")],
        [Document("ax", "y"), b],
        [a],
        [],
    ]
    assert len({digest(documents).hexdigest() for documents in different}) == 8
    assert digest([a, b]).hexdigest() == digest(iter([a, b])).hexdigest()
    assert (digest([a, b]).documents, digest([a, b]).bytes) == (2, 3)


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (b"PAR1\xff\x00", "a Parquet file; data.Parquet reads it"),
        ('{"text": "a"}'.encode("utf-16"), "UTF-16 text; write it as UTF-8"),
    ],
)
def test_what_is_not_text_is_named(tmp_path, content, form):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(content)
    for documents in (TextFiles(files=[str(path)]), JsonLines(files=[str(path)])):
        with pytest.raises(UserError) as error:
            list(documents)
        assert f"{path} is {form}" in str(error.value)


def test_names_do_not_say_where_the_files_are(tmp_path):
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.txt").write_text("text")
    digests = {
        digest(TextFiles(files=[str(tmp_path / place / name)])).hexdigest()
        for place in ("here", "there")
        for name in ("", "a.txt", "*.txt")
    }
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "at least one path"),
        ("a.txt", "must be a list of paths, got the string 'a.txt'"),
        (["{}/q.txt"], "no such file: {}/q.txt"),
        (["{}/a.text"], "did you mean 'a.txt'?"),
        (["{}/none/a.txt"], "{}/none is not a directory"),
        (["{}/*.md"], "this glob matches no file: {}/*.md"),
        (["{}/empty"], "this directory holds no file: {}/empty"),
    ],
)
def test_missing_files_are_refused_by_check(folder, files, message):
    (folder / "empty").mkdir()
    if not isinstance(files, str):
        files = [file.format(folder) for file in files]
    for source in (TextFiles(files=files), JsonLines(files=files)):
        with pytest.raises(UserError) as error:
            source.check()
        assert message.format(folder) in str(error.value)


def test_bytes_that_are_not_utf8_are_refused_with_their_place(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("café".encode("latin-1"))
    TextFiles(files=[str(path)]).check()
    with pytest.raises(UserError, match=r"latin.txt is not UTF-8.*byte 3 is 0xe9"):
        list(TextFiles(files=[str(path)]))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "a"', "a.jsonl:2: not JSON: "),
        (b'{"text": "\xe9"}', "a.jsonl:2: not UTF-8 text"),
        (b'["a"]', "a.jsonl:2: expected a JSON object, got list"),
        (b'{"texts": "a"}', "a.jsonl:2: no field 'text'; did you mean 'texts'?"),
        (b"{}", "a.jsonl:2: no field 'text'"),
        (b'{"text": 3}', "a.jsonl:2: field 'text' must be a string, got int"),
        (json.dumps({"text": "\ud800"}).encode(), "holds half a surrogate pair"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path, line, message):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "good"}\n' + line + b"\n")
    with pytest.raises(UserError) as error:
        list(JsonLines(files=[str(path)]))
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) <= 3


def test_equal_documents_are_hashed_once_while_that_is_asked_for(folder):
    def hashed():
        return digest(TextFiles(files=[str(folder / "a.txt")])).hexdigest()

    with hashed_once():
        before = hashed()
        (folder / "a.txt").write_text("another text")
        assert hashed() == before
        assert digest(TextFiles(files=[str(folder / "b.txt")])).hexdigest() != before
    assert hashed() != before
