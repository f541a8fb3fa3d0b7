"""A server on this machine that speaks vLLM's form, llama.cpp's, or neither."""

import contextlib
import http.server
import json
import threading

import numpy as np

from tests.runner.exchange import producers
from tests.runner.exchange.teacher import log_probabilities
from tests.runner.records.sets import VOCABULARY


class StandIn:
    """Answers to requests, counted; some of the first are refused as by a busy one.

    Args:
      form: "vllm" scores prompts; "llama_cpp" ignores `prompt_logprobs`, as its server
        does, and gives `n_probs`; "neither" ignores both.
      entries: of a place, at most.
      busy: requests that are answered 503 before the first that is not.
      pieces: by id, what the server calls it; None for the data's texts.
    """

    def __init__(self, form="vllm", *, entries=99, busy=0, pieces=None):
        self.form, self.entries, self.busy = form, entries, busy
        self.pieces = pieces or VOCABULARY.pieces
        self.asked = []

    def answer(self, path, body):
        if path == "/v1/completions":
            return self._completions(body)
        if path == "/completion" and self.form != "vllm":
            return self._completion(body)
        return None

    def _completions(self, body):
        choices = []
        for number, ids in enumerate(body["prompt"]):
            if self.form == "vllm":
                k = min(body["prompt_logprobs"], self.entries)
                (choice,) = producers.vllm_answer(ids, k=k)["choices"]
                for place in choice["prompt_logprobs"][1:]:
                    for index, entry in place.items():
                        entry["decoded_token"] = self.pieces[int(index)].decode(
                            errors="replace"
                        )
            else:
                choice = {"text": "x", "logprobs": None}
            choices.append({**choice, "index": number})
        return {"choices": choices[::-1]}  # in no order

    def _completion(self, body):
        if self.form == "neither":
            return {"content": "x"}
        asked = body["prompt"]
        # What is said of a place depends on the token after it, in this made-up text.
        begun = (x for x in producers.sequences() if x[: len(asked)] == asked)
        own = log_probabilities(next(begun))[len(asked) - 1]
        best = np.argsort(-own, kind="stable")[: min(body["n_probs"], self.entries)]
        entries = [
            {"id": i, "bytes": list(self.pieces[i]), "logprob": float(own[i])}
            for i in best.tolist()
        ]
        return {"completion_probabilities": [{**entries[0], "top_logprobs": entries}]}

    @contextlib.contextmanager
    def running(self, port=0):
        """Serve in threads, at the address that is given."""
        stand_in = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                size = int(self.headers["Content-Length"])
                body = json.loads(self.rfile.read(size))
                if stand_in.busy > 0:
                    stand_in.busy -= 1
                    return self.send_error(503)
                stand_in.asked.append(body)
                answer = stand_in.answer(self.path, body)
                if answer is None:
                    return self.send_error(404)
                content = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}"
            finally:
                server.shutdown()
                thread.join()
