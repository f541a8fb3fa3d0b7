"""Files as other programs write them, each by its own code's account of them."""

import json

import numpy as np

from tests.runner.exchange.teacher import K, log_probabilities, segments


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
