"""Requests to a server of JSON: repeated while it is away, each with a time limit."""

import http.client
import json
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from runner.errors import UserError
from runner.machine import stop_signals

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Seconds before the second request, and at most between two."""

_AWAY = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
)
_BUSY = (408, 425, 429, 500, 502, 503, 504)  # what a server says that will answer later


class Refused(Exception):
    """The server answered that it will not do it; the message is one line."""


class Client:
    """A server by its address. Threads may share it.

    Args:
      url: of the server, with or without a last `/v1`.
      patience: seconds without an answer after which the run ends.
      timeout: seconds for one answer.
    """

    def __init__(self, url: str, *, patience: float, timeout: float = 300.0):
        self.url = url.rstrip("/").removesuffix("/v1")
        self._patience, self._timeout = patience, timeout
        self._lock, self._away = threading.Lock(), False
        self._given_up = threading.Event()

    def give_up(self) -> None:
        """End the waiting of all requests: one of them has failed for good."""
        self._given_up.set()

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the answer to a request; asked again, ever later, while there is none.

        Raises:
          Refused: with an error of the request itself (4xx).
          UserError: there is no answer for as long as is waited.
          StopAsked: a signal came while the server was away.
        """
        begin, wait = time.monotonic(), FIRST_WAIT
        while True:
            try:
                answer = self._post_once(path, body)
            except (*_AWAY, ValueError) as error:
                reason = _reason(error)
            else:
                self._say_back(time.monotonic() - begin)
                return answer
            waited = time.monotonic() - begin
            if waited + wait > self._patience or self._given_up.is_set():
                raise UserError(
                    f"teacher: {self.url} has not answered for {waited:.0f} s "
                    f"({reason}); start it, then the same command goes on"
                )
            self._say_away(reason)
            stop_signals.wait(self._given_up, wait)
            wait = min(2 * wait, LONGEST_WAIT)

    def _post_once(self, path: str, body: Mapping[str, Any]) -> Any:
        request = urllib.request.Request(
            f"{self.url}{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                message = _message(error.read())
            if error.code in _BUSY:
                raise ConnectionError(f"status {error.code}") from error
            raise Refused(f"status {error.code}{message}") from error

    def _say_away(self, reason: str) -> None:
        with self._lock:
            first, self._away = not self._away, True
        if first:
            _say(f"teacher: {self.url} does not answer ({reason}); the run waits")

    def _say_back(self, seconds: float) -> None:
        with self._lock:
            was_away, self._away = self._away, False
        if was_away:
            _say(f"teacher: {self.url} answers after {seconds:.0f} s; the run goes on")


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", error)
    return " ".join(str(cause).split())[:120] or type(error).__name__


def _message(body: bytes) -> str:
    """Return what a server says of an error, if it says so as such servers do."""
    try:
        answer = json.loads(body)
        error = answer.get("error", answer)
        return ": " + " ".join(str(error["message"]).split())[:200]
    except (AttributeError, KeyError, TypeError, ValueError):
        return ""


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
