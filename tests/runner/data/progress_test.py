import io
import re

from runner.data.progress import Progress


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def advanced(doing, total, times, **fields):
    clock, stream = Clock(), io.StringIO()
    progress = Progress(doing, total, stream=stream, clock=clock)
    for clock.now in times:
        progress.advance(10_000_000, **fields)
    progress.close()
    return stream.getvalue().splitlines()


def test_what_is_quick_says_nothing():
    assert advanced("reading", 0, [0.1, 0.2, 1.9]) == []


def test_a_line_says_what_is_left():
    assert advanced("tokenising", 100_000_000, [1, 2, 3, 5, 12]) == [
        "tokenising: 20%, 20 of 100 MB, 10.0 MB/s, 0:08 left",
        "tokenising: 50%, 50 of 100 MB, 4.2 MB/s, 0:12 left",
    ]
    # The last line says what was done after the one before it.
    assert advanced("reading", 0, [4, 5]) == [
        "reading: 10 MB, 2.5 MB/s",
        "reading: 20 MB, 4.0 MB/s",
    ]


def test_without_a_total_there_is_the_rate():
    assert advanced("reading", 0, [4])[0] == "reading: 10 MB, 2.5 MB/s"


def test_what_an_earlier_run_did_does_not_count_as_speed():
    lines = advanced("tokenising", 100_000_000, [2, 4], before=True)
    assert lines[0] == "tokenising: 10%, 10 of 100 MB, 0.0 MB/s, 10 MB done before"


def test_on_a_terminal_it_is_a_bar(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    stream, clock = io.StringIO(), Clock()
    stream.isatty, clock.now = lambda: True, 0.0
    progress = Progress("tokenising", 20_000_000, stream=stream, clock=clock)
    clock.now = 4.0
    progress.advance(10_000_000)
    drawn = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    end = " 50%  10 of 20 MB  2.5 MB/s  0:04 left"
    assert re.fullmatch(f"tokenising [━╺-]+ *{end}", drawn), drawn
    progress.close()
