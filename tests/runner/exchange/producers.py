"""Files as other programs write them, each by its own code's account of them."""

import base64
import functools
import json
from typing import Any

import numpy as np

from tests.runner.exchange.teacher import (
    K,
    expected,
    log_probabilities,
    rows,
    segments,
)


def sequences() -> list[list[int]]:
    """What is asked of a server: the ids of each segment and of its last target."""
    return [ids.tolist() for _, _, ids in segments()]


def vllm_entries(log_p: np.ndarray, token: int, k: int) -> dict[str, dict]:
    """One place of `prompt_logprobs`: the token itself, then the k best."""
    best = np.argsort(-log_p, kind="stable")[:k].tolist()
    ranks = {id: rank for rank, id in enumerate(best, 1)}
    rank = ranks.get(token, int((log_p >= log_p[token]).sum()))
    entries = {token: rank} | ranks
    return {
        str(id): {"logprob": float(log_p[id]), "rank": rank, "decoded_token": None}
        for id, rank in entries.items()
    }


def vllm_answer(ids, *, k=K, shift=0, echoed=True) -> dict:
    """`request_output_to_completion_response` for one prompt, `max_tokens=1`."""
    log_p = np.roll(log_probabilities(ids), shift, 0)
    places = [vllm_entries(log_p[i], token, k) for i, token in enumerate(ids[1:])]
    choice = {
        "index": 0,
        "text": "",
        "logprobs": None,
        "prompt_logprobs": [None, *places],
        "prompt_token_ids": list(ids) if echoed else None,
        "token_ids": [int(log_p[-1].argmax())] if echoed else None,
    }
    return {"id": "cmpl-1", "model": "tiny", "choices": [choice], "usage": {}}


def write_lines(path, objects) -> None:
    path.write_text("".join(json.dumps(x) + "\n" for x in objects))


def vllm(path, **options) -> None:
    write_lines(path, [vllm_answer(ids, **options) for ids in sequences()])


def llama_cpp(path, *, shift=0) -> None:
    """`/completion`, a request for each prefix of each segment."""
    lines = []
    for ids in sequences():
        log_p = np.roll(log_probabilities(ids), shift, 0)
        for length in range(1, len(ids)):
            own = log_p[length - 1]
            best = np.argsort(-own, kind="stable")[:K].tolist()
            entries = [
                {"id": i, "token": "", "bytes": [], "logprob": float(own[i])}
                for i in best
            ]
            token = {**entries[0], "top_logprobs": entries}
            lines.append(
                {
                    "prompt": ids[:length],
                    "model": "tiny",
                    "completion_probabilities": [token],
                }
            )
    write_lines(path, lines)


def sglang(path, *, shift=0) -> None:
    """`/generate` with `logprob_start_len=0`: a list of two answers a line."""
    answers = []
    for ids in sequences():
        log_p = np.roll(log_probabilities(ids), shift, 0)
        best = [np.argsort(-x, kind="stable")[:K].tolist() for x in log_p]
        tops = [
            [[float(x[i]), i, None] for i in b]
            for x, b in zip(log_p, best, strict=True)
        ]
        own = [[float(x[i]), i, None] for x, i in zip(log_p[:-1], ids[1:], strict=True)]
        meta = {
            "input_token_logprobs": [[None, ids[0], None], *own],
            "input_top_logprobs": [None, *tops[:-1]],
            "output_top_logprobs": [tops[-1]],
        }
        answers.append({"text": "", "meta_info": meta})
    write_lines(path, [answers[i : i + 2] for i in range(0, len(answers), 2)])


def trl(path, *, shift=0, binary=False) -> None:
    """`_format_logprob_response` of two requests; prompts of one token."""
    asked, lines = sequences(), []
    for part in (asked[:5], asked[5:]):
        longest = max(map(len, part)) - 1
        scores = np.full((len(part), longest, K), -np.inf, np.float32)
        ids = np.zeros(scores.shape, np.int32)
        nested = {"logprobs": [], "logprob_token_ids": []}
        for i, sequence in enumerate(part):
            log_p = np.roll(log_probabilities(sequence), shift, 0)
            places = [
                vllm_entries(x, token, K)
                for x, token in zip(log_p, sequence[1:], strict=False)
            ]
            ranked = [
                sorted(place.items(), key=lambda x: x[1]["rank"]) for place in places
            ]
            nested["logprobs"].append([[x["logprob"] for _, x in r] for r in ranked])
            nested["logprob_token_ids"].append([[int(t) for t, _ in r] for r in ranked])
            for t, entries in enumerate(ranked):
                ids[i, t] = [int(token) for token, _ in entries[:K]]
                scores[i, t] = [x["logprob"] for _, x in entries[:K]]
        request = {
            "sequences": part,
            "prompt_lengths": [1] * len(part),
            "top_logprobs": K,
        }
        response = nested
        if binary:
            response = {
                "logprobs_b64": base64.b64encode(scores.tobytes()).decode(),
                "token_ids_b64": base64.b64encode(ids.tobytes()).decode(),
                "shape": list(scores.shape),
                "completion_lengths": [len(x) - 1 for x in part],
            }
        lines.append({"request": request, "response": response})
    write_lines(path, lines)


def trl_binary(path, **options) -> None:
    trl(path, binary=True, **options)


def axolotl(path, *, shift=0) -> None:
    """Rows that `preprocess` writes: places as its trainer compares them."""
    lines = []
    for ids in sequences():
        log_p = np.roll(log_probabilities(ids), shift, 0)[:-1]
        best = np.argsort(-log_p, axis=-1, kind="stable")[:, :K]
        scores = np.take_along_axis(log_p, best, -1).tolist()
        padding = [[-1e9] * K]
        lines.append(
            {
                "input_ids": ids,
                "labels": ids,
                "target_logprobs": scores + padding,
                "target_token_ids": [*best.tolist(), [0] * K],
                "target_mask": [[1] * K] * len(scores) + [[0] * K],
            }
        )
    write_lines(path, lines)


def axolotl_raw(path, *, shift=0) -> None:
    """`logprobs` of all tokens but the first, by `token_id:N`."""
    lines = []
    for ids in sequences():
        log_p = np.roll(log_probabilities(ids), shift, 0)[:-1]
        best = np.argsort(-log_p, axis=-1, kind="stable")[:, :K]
        entries = [
            [{"token": f"token_id:{i}", "logprob": float(x[i])} for i in b]
            for x, b in zip(log_p, best.tolist(), strict=True)
        ]
        lines.append({"input_ids": ids, "logprobs": entries})
    write_lines(path, lines)


def packed_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """`pack_to_bytes`: the highest bit of each first."""
    flat = values[..., None] >> np.arange(bits - 1, -1, -1) & 1
    return np.packbits(flat.reshape(len(values), -1).astype(np.uint8), axis=-1)


def distillkit(path, *, shift=0) -> None:
    """A folder of parquet and its config: all k exact, in differences."""
    import pyarrow
    from pyarrow import parquet

    columns = {"input_ids": [], "compressed_logprobs": [], "bytepacked_indices": []}
    for ids in sequences():
        log_p = np.roll(log_probabilities(ids), shift, 0)[:-1]
        best = np.argsort(-log_p, axis=-1, kind="stable")[:, :K]
        scores = np.take_along_axis(log_p, best, -1)
        deltas = np.diff(scores, axis=-1, prepend=np.float32(0))
        columns["input_ids"].append(ids)
        columns["compressed_logprobs"].append(deltas.view(np.uint8).tolist())
        columns["bytepacked_indices"].append(packed_bits(best, 9).tolist())
    path.mkdir()
    lists = pyarrow.list_(pyarrow.list_(pyarrow.uint8()))
    kinds = [pyarrow.list_(pyarrow.uint64()), lists, lists]
    schema = pyarrow.schema(list(zip(columns, kinds, strict=True)))
    table = pyarrow.table(columns, schema=schema)
    parquet.write_table(table.slice(0, 7), path / "data_0.parquet")
    parquet.write_table(table.slice(7), path / "data_1.parquet")
    config = f"d: 257\nk: {K}\nexact_k: {K}\nexact_dtype: float32\nresidual_bins: []\n"
    (path / "compression_config.yaml").write_text(config)


def maxtext(path, *, shift=0) -> None:
    """A folder of ArrayRecord of `tf.train.Example`s, one of each packed row."""
    from array_record.python.array_record_module import ArrayRecordWriter

    data, whole = rows(), expected()
    path.mkdir()
    name = path / "teacher_top_k_part_00000_host_000.array_record"
    writer = ArrayRecordWriter(str(name), "group_size:1")
    for number, tokens in enumerate(data["tokens"]):
        logits = np.roll(whole[number], shift, 0) + np.float32(number)
        best = np.argsort(-logits, axis=-1, kind="stable")[:, :K]
        features = {
            "inputs": tokens,
            "top_k_logits": np.take_along_axis(logits, best, -1),
            "top_k_indices": best,
            "sequence_hash": np.array([-7]),
            "inputs_segmentation": data["segment_ids"][number],
        }
        writer.write(example(features))
    writer.close()


@functools.cache
def example_class():
    """`tf.train.Example`, by protobuf itself, from its definition."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="example.proto", package="tf", syntax="proto3"
    )

    def message(name, fields, into=file.message_type, repeated=False):
        own = into.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), 1):
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            added = own.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = kinds.TYPE_MESSAGE, kind
            else:
                added.type = kind
        return own

    message("BytesList", {"value": kinds.TYPE_BYTES}, repeated=True)
    message("FloatList", {"value": kinds.TYPE_FLOAT}, repeated=True)
    message("Int64List", {"value": kinds.TYPE_INT64}, repeated=True)
    lists = {"bytes_list": "Bytes", "float_list": "Float", "int64_list": "Int64"}
    message("Feature", {name: f".tf.{kind}List" for name, kind in lists.items()})
    entry = ".tf.Features.FeatureEntry"
    features = message("Features", {"feature": entry}, repeated=True)
    fields = {"key": kinds.TYPE_STRING, "value": ".tf.Feature"}
    message("FeatureEntry", fields, features.nested_type).options.map_entry = True
    message("Example", {"features": ".tf.Features"})
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tf.Example"))


def example(features: dict[str, np.ndarray]) -> bytes:
    """`create_tf_example`: numbers laid flat."""
    message: Any = example_class()()
    for name, array in features.items():
        feature = message.features.feature[name]
        if np.issubdtype(array.dtype, np.floating):
            feature.float_list.value.extend(array.ravel().tolist())
        else:
            feature.int64_list.value.extend(array.ravel().tolist())
    return message.SerializeToString()


WRITERS = {
    "vllm": vllm,
    "llama_cpp": llama_cpp,
    "sglang": sglang,
    "trl": trl,
    "trl binary": trl_binary,
    "axolotl": axolotl,
    "axolotl raw": axolotl_raw,
    "distillkit": distillkit,
    "maxtext": maxtext,
}
