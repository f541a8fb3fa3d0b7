import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

import losses
from runner.errors import UserError
from runner.exchange.importing import Choices, import_records
from runner.exchange.prompts import write
from runner.records.codes import logits
from runner.records.reader import Records
from runner.records.show import describe
from runner.records.verify import verify
from runner.teachers.offline import LoadedRecords, unpacked
from tests.runner.exchange import producers, teacher
from tests.runner.exchange.teacher import K


def imported(kind, source, to, **choices):
    import_records(kind, source, to, teacher.dataset(), Choices(**choices))
    return Records.load(to)


def stored(records):
    """Ids, log-probabilities and log-rests of every position, as they are read."""
    rows = teacher.rows()
    numbers = np.arange(len(rows["tokens"]))
    arrays = records.teacher_arrays(numbers, rows)
    drops = np.pad(arrays["teacher/drops"], [(0, 0), (0, 0), (1, 0)])
    log_z = arrays["teacher/log_normalizers"]
    return (
        arrays["teacher/ids16"].astype(int),
        logits(drops) - log_z,
        arrays["teacher/log_rests"][..., 0] - log_z[..., 0],
    )


def check_values(records, *, k=K, atol=3e-4):
    """Every counted position holds the teacher's best entries and their mass."""
    mask, whole = teacher.rows()["mask"], teacher.expected()
    ids, log_p, rest = (x[mask] for x in stored(records))
    whole = whole[mask].astype(float)
    best = np.argsort(-whole, -1, kind="stable")[:, :k]
    np.testing.assert_array_equal(ids, best)
    values = np.take_along_axis(whole, best, -1)
    np.testing.assert_allclose(log_p, values, atol=atol)
    np.testing.assert_allclose(
        np.exp(rest), 1 - np.exp(values).sum(-1), atol=max(3e-6, atol / 100)
    )


def check_ratios(records):
    """Every counted position holds the teacher's best entries, up to a constant."""
    mask, whole = teacher.rows()["mask"], teacher.expected()
    rows = teacher.rows()
    arrays = records.teacher_arrays(np.arange(len(mask)), rows)
    drops = np.pad(arrays["teacher/drops"], [(0, 0), (0, 0), (1, 0)])[mask]
    best = np.argsort(-whole[mask], -1, kind="stable")[:, :K]
    np.testing.assert_array_equal(arrays["teacher/ids16"][mask], best)
    values = np.take_along_axis(whole[mask], best, -1)
    np.testing.assert_allclose(logits(drops), values - values[:, :1], atol=3e-4)
    assert records.layout.temperatures == ()


@pytest.fixture(name="answers")
def _answers(tmp_path):
    path = tmp_path / "answers.jsonl"
    producers.vllm(path)
    return path


@pytest.mark.parametrize("writer", producers.WRITERS)
def test_imported_scores_are_the_producers_own(writer, tmp_path):
    kind, source = writer.split()[0], tmp_path / "scores"
    producers.WRITERS[writer](source)
    choices = {"temperature": 1.0} if kind == "axolotl" else {}
    records = imported(kind, source, tmp_path / "to", **choices)
    if kind == "maxtext":
        check_ratios(records)
    else:
        check_values(records)
    verify(tmp_path / "to")
    name = "tiny" if kind in ("vllm", "llama_cpp") else "unknown"
    assert records.manifest.origin.teacher.startswith(f"{name}, ")
    # Nothing is left of the work, and nothing of it lies beside the records.
    assert sorted(x.name for x in tmp_path.iterdir()) == ["scores", "to"]


def test_the_order_of_a_file_is_of_no_account(answers, tmp_path):
    lines = answers.read_text().splitlines()
    first = imported("vllm", answers, tmp_path / "a")
    answers.write_text("\n".join(lines[::-1]) + "\n\n")
    again = imported("vllm", answers, tmp_path / "b")
    for one, other in zip(stored(first), stored(again), strict=True):
        np.testing.assert_array_equal(one, other)


def test_prompts_ask_for_each_segment_with_its_last_target(tmp_path):
    count = write(teacher.dataset(), tmp_path / "prompts.jsonl")
    lines = (tmp_path / "prompts.jsonl").read_text().splitlines()
    prompts = [json.loads(line)["prompt"] for line in lines]
    unique = list(map(list, dict.fromkeys(map(tuple, producers.sequences()))))
    assert prompts == unique and count == len(unique)


def test_what_was_not_scored_is_marked_and_counted_by_no_hit(answers, tmp_path):
    lines = answers.read_text().splitlines()
    answers.write_text("\n".join(lines[2:]))
    with pytest.raises(UserError, match="1 of 8 rows lack scores, first row 0"):
        imported("vllm", answers, tmp_path / "to")
    records = imported("vllm", answers, tmp_path / "to", partial=True)
    verify(tmp_path / "to")
    rows, lost = teacher.rows(), np.zeros((8, teacher.LENGTH), bool)
    for row, start, ids in teacher.segments()[:2]:
        lost[row, start : start + len(ids) - 1] = True
    arrays = records.teacher_arrays(np.arange(8), rows)
    np.testing.assert_array_equal(arrays["teacher/known"], rows["mask"] & ~lost)
    manifest = records.manifest
    assert manifest.targets == (rows["mask"] & ~lost).sum() < rows["mask"].sum()
    assert manifest.hits <= manifest.targets
    ids, log_p, _ = stored(records)
    whole, known = teacher.expected(), rows["mask"] & ~lost
    np.testing.assert_allclose(
        log_p[known], np.take_along_axis(whole, ids, -1)[known], atol=3e-4
    )


def renormalized(answer):
    """The answer with probabilities over its K entries alone."""
    for place in answer["choices"][0]["prompt_logprobs"][1:]:
        extra = [key for key, x in place.items() if x["rank"] > K]
        for key in extra:
            del place[key]
        total = np.logaddexp.reduce([x["logprob"] for x in place.values()])
        for x in place.values():
            x["logprob"] -= total
    return answer


@pytest.fixture(name="over_entries")
def _over_entries(tmp_path):
    answers = map(producers.vllm_answer, producers.sequences())
    producers.write_lines(tmp_path / "a.jsonl", map(renormalized, answers))
    return imported("vllm", tmp_path / "a.jsonl", tmp_path / "to")


def test_scores_over_their_entries_alone_have_no_mass_outside(over_entries):
    directory = over_entries.directory
    verify(directory)
    assert "one position off" not in "".join(describe(directory))
    spec = LoadedRecords(over_entries).stored
    assert spec.temperatures == ()
    for sparse in ("renormalize_both", "renormalize_teacher"):
        losses.ForwardKL(sparse=sparse).check_records(spec)
    for loss in (losses.ForwardKL(), losses.ReverseKL(sparse="truncate")):
        with pytest.raises(ValueError, match="outside of its entries, which the rec"):
            loss.check_records(spec)


@pytest.mark.slow  # compiles a divergence
def test_over_its_entries_a_teacher_is_what_it_was_at_any_temperature(over_entries):
    records, mask = over_entries, teacher.rows()["mask"]
    spec = LoadedRecords(records).stored
    batch = {
        name: jnp.asarray(x)
        for name, x in records.teacher_arrays(np.arange(8), teacher.rows()).items()
    }
    taught = unpacked(batch, spec)
    own = np.random.default_rng(3).normal(size=(*mask.shape, 257)).astype(np.float32)
    loss = losses.ForwardKL(sparse="renormalize_both", temperature=2.0)
    value = loss(losses.FullOutputs(batch={}, logits=jnp.asarray(own), teacher=taught))
    ids = np.asarray(taught.indices)
    p, q = (
        log_softmax(np.take_along_axis(x, ids, -1) / 2.0, -1)
        for x in (teacher.expected(), own)
    )
    expected = (np.exp(p) * (p - q)).sum(-1)
    np.testing.assert_allclose(value[mask], expected[mask], atol=2e-3)


@pytest.mark.parametrize("shift", [1, -1])
@pytest.mark.parametrize("writer", producers.WRITERS)
def test_scores_one_position_off_are_refused_by_their_hits(writer, shift, tmp_path):
    producers.WRITERS[writer](tmp_path / "off", shift=shift)
    pattern = r"one position off: its entries hold \d+\.\d% of the next tokens and \d\d"
    with pytest.raises(UserError, match=pattern):
        imported(writer.split()[0], tmp_path / "off", tmp_path / "to", temperature=1.0)
    assert [x.name for x in tmp_path.iterdir()] == ["off"]


def changed(answers, change):
    """The file with its third line changed, as an object or as text."""
    lines = answers.read_text().splitlines()
    line = json.loads(lines[2])
    new = change(line)
    lines[2] = new if isinstance(new, str) else json.dumps(new or line)
    answers.write_text("\n".join(lines) + "\n")


def choice(field, value):
    return lambda line: line["choices"][0].update({field: value})


MALFORMED = {
    "not JSON": (lambda line: "{", "line 3: not JSON"),
    "cut": (lambda line: json.dumps(line)[:99], "line 3: not JSON"),
    "a list": (lambda line: "[1]", "line 3: it must be an object, got [1]"),
    "choices": (lambda line: line.update(choices=3), "choices must be a list, got 3"),
    "no ids": (choice("prompt_token_ids", None), "ask with return_token_ids=true"),
    "ids": (choice("prompt_token_ids", ["a"]), 'must be an integer, got "a"'),
    "places": (choice("prompt_logprobs", [None]), "has 1 places, the prompt"),
    "entries": (
        lambda line: line["choices"][0]["prompt_logprobs"].__setitem__(1, [1]),
        "line 3: prompt_logprobs must hold null or",
    ),
    "keys": (
        lambda line: line["choices"][0]["prompt_logprobs"].__setitem__(
            1, {"the": {"logprob": -1.0}}
        ),
        "line 3: prompt_logprobs must hold null or",
    ),
    "numbers": (
        lambda line: line["choices"][0]["prompt_logprobs"].__setitem__(
            1, {"3": {"logprob": float("nan")}}
        ),
        "line 3: a score is not a finite number",
    ),
    "vocabulary": (
        lambda line: line["choices"][0]["prompt_logprobs"].__setitem__(
            1, {"300": {"logprob": -1.0}}
        ),
        "line 3: holds id 300, outside of the data's vocabulary of 257 tokens",
    ),
    "negative": (
        lambda line: line["choices"][0]["prompt_logprobs"].__setitem__(
            1, {"-3": {"logprob": -1.0}}
        ),
        "line 3: ids hold -3, which is no id",
    ),
    "no scores": (choice("prompt_logprobs", None), "holds no scores; was"),
    "a row": (lambda line: "", "rows lack scores, first row 0 at position"),
    "logits": (
        lambda line: line["choices"][0]["prompt_logprobs"].__setitem__(
            1, {str(i): {"logprob": 7.5 - i} for i in range(K)}
        ),
        "are no log-probabilities of one softmax",
    ),
    "few": (
        lambda line: line["choices"][0]["prompt_logprobs"].__setitem__(
            1, {"3": {"logprob": -1.0}}
        ),
        f"holds 1 to {K + 1} entries a position; --entries=1 keeps",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_is_refused_in_a_line(name, answers, tmp_path):
    change, message = MALFORMED[name]
    changed(answers, change)
    with pytest.raises(UserError, match=re.escape(message)) as refusal:
        imported("vllm", answers, tmp_path / "to")
    assert len(str(refusal.value).splitlines()) == 1
    assert [x.name for x in tmp_path.iterdir()] == ["answers.jsonl"]


def test_scores_of_other_text_bind_to_no_row(answers, tmp_path):
    data = teacher.dataset(1)
    with pytest.raises(
        UserError, match="no row has scores throughout by any of 17 seq"
    ):
        import_records("vllm", answers, tmp_path / "to", data, Choices())


def test_an_existing_directory_and_an_unknown_kind_are_refused(answers, tmp_path):
    with pytest.raises(UserError, match="exists; imported records want a new"):
        imported("vllm", answers, tmp_path)
    with pytest.raises(UserError, match="no kind of scores 'vlm'; did you mean 'vllm'"):
        imported("vlm", answers, tmp_path / "to")
