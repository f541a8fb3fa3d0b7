"""What a user sees while a run goes on."""

import io
import os
import pty
import re
import subprocess
import sys
import termios

import pytest

from runner.files import early_line, sweep_unit
from runner.files.sweep_unit import Place
from runner.train.actions.progress import Progress
from runner.writers import live, quantities
from runner.writers.bars import Bar, step_bar
from runner.writers.stopwatch import Stopwatch
from runner.writers.terminal import Terminal
from tests.runner.train.contexts import Clock, context


class Tty(io.StringIO):
    """A terminal that keeps what it is sent."""

    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


def screen(text):
    """The lines a terminal shows after `text`: just enough of one to check ours."""
    lines, row, column = [""], 0, 0
    for piece in re.split(r"(\r|\n|\x1b\[\d*A|\x1b\[2K|\x1b\[[0-9;]*m)", text):
        if piece == "\n":
            row, column = row + 1, 0
            lines += [""] * (row == len(lines))
        elif piece == "\r":
            column = 0
        elif piece == "\x1b[2K":
            lines[row] = ""
        elif piece.endswith("A") and piece.startswith("\x1b"):
            row -= int(piece[2:-1])
            assert row >= 0
        elif not piece.startswith("\x1b"):
            assert "\x1b" not in piece
            line = lines[row].ljust(column)
            lines[row] = line[:column] + piece + line[column + len(piece) :]
            column += len(piece)
    while len(lines) > row + 1 and not lines[-1]:
        lines.pop()
    return [line.rstrip() for line in lines]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0:00"),
        (7, "0:07"),
        (59.6, "1:00"),
        (83, "1:23"),
        (7425, "2:03:45"),
        (273600, "3d 4h"),
    ],
)
def test_durations_are_read_like_a_clock(seconds, text):
    assert quantities.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (7.4, "7"),
        (812, "812"),
        (999.4, "999"),
        (999.6, "1.00k"),
        (26140, "26.1k"),
        (99950, "100k"),
        (1.2e6, "1.20M"),
        (4.56e13, "45.6T"),
    ],
)
def test_quantities_have_three_digits(value, text):
    assert quantities.quantity(value) == text


def drawn(*bars, lines=()):
    stream = Tty()
    live.Display(stream).draw(bars, lines)
    return screen(stream.getvalue())


@pytest.mark.parametrize("fraction", [0.0, 0.24, 0.5, 0.999, 1.0, 1.5])
def test_a_bar_is_thirty_columns_wide(fraction):
    (line,) = drawn(Bar("a", fraction, "b"))
    assert re.fullmatch("a [━╸╺]{30} b", line)


@pytest.mark.parametrize("columns", [20, 30, 40, 60, 80, 200])
def test_no_line_wraps(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    bar = step_bar(
        180,
        12000,
        values={"loss": 4.51234, "ce": 4.4},
        speed="26.1k tokens/s",
        time_left="1:23 left",
    )
    shown, below, line = drawn(bar, Bar("held_out", 0.5, " 50%"), lines=["a  b" * 99])
    assert max(map(len, (shown, below, line))) < columns
    assert shown.startswith("  180/12000") and below.startswith("   held_out")
    assert columns < 80 or shown.endswith(
        "1%  loss 4.512  ce 4.400  26.1k tokens/s  1:23 left"
    )


def observed(terminal, *, num_steps, clock, seconds=1.0, **metrics):
    stopwatch = Stopwatch(now=clock, announce=terminal.status)
    run = context(
        terminal=terminal, num_steps=num_steps, stopwatch=stopwatch, units_per_step=1000
    )
    act = Progress(run, now=clock)
    for step in range(1, num_steps + 1):
        clock.seconds += seconds
        act(step, metrics={"learning/total": 8.0 / step, **metrics})
    return stopwatch


def test_a_terminal_shows_a_bar():
    stream = Tty()
    terminal = Terminal(stream)
    observed(terminal, num_steps=4, clock=Clock(0.0))
    terminal.close()
    shown, after = screen(stream.getvalue())
    assert shown == f"4/4 {'━' * 30} 100%  loss 2.000  1.00k tokens/s  in 0:04"
    assert after == ""


HALF = step_bar(1, 2, values={}, time_left="0:12 left")
BAR = f"{'━' * 15}╺{'━' * 14}"
PARTS = {
    "learning/ce": 1.5,
    "optimizer/learning_rate": 3e-4,
    "optimizer/gradient_norm": 0.91,
    "optimizer/parameter_norm": 40.0,
}


def test_terms_learning_rate_and_gradient_norm_stand_below_the_total():
    stream = Tty()
    terminal = Terminal(stream)
    observed(terminal, num_steps=4, clock=Clock(0.0), **PARTS)
    terminal.print("held_out: loss 4.5")
    terminal.close()
    assert screen(stream.getvalue()) == [
        "held_out: loss 4.5",
        f"4/4 {'━' * 30} 100%  loss 2.000  1.00k tokens/s  in 0:04",
        "ce 1.500  lr 3.000e-4  gradient 0.9100",
        "",
    ]


def test_a_file_has_the_same_numbers_on_one_line():
    stream = io.StringIO()
    observed(Terminal(stream), num_steps=1, clock=Clock(0.0), **PARTS)
    assert stream.getvalue() == (
        "step 1/1  100%  loss 8.000  ce 1.500  lr 3.000e-4  gradient 0.9100  in 0:01\n"
    )


def test_an_evaluation_has_a_bar_of_its_own_below_the_step(monkeypatch):
    stream = Tty()
    terminal = Terminal(stream)
    terminal.show(HALF, "ce 1.5")
    terminal.status("evaluating")
    terminal.progress("held_out", 0.25)
    terminal.progress("held_out", 0.5)
    assert screen(stream.getvalue()) == [
        f"     1/2 {BAR}  50%  evaluating…",
        f"held_out {BAR}  50%",
        "ce 1.5",
    ]
    terminal.status("")
    assert screen(stream.getvalue()) == [f"1/2 {BAR}  50%  0:12 left", "ce 1.5"]
    quiet = io.StringIO()
    Terminal(quiet).progress("held_out", 0.5)
    assert not quiet.getvalue()


def test_the_live_line_is_drawn_at_most_ten_times_a_second():
    stream = Tty()
    observed(Terminal(stream), num_steps=1000, clock=Clock(0.0), seconds=0.001)
    assert 9 <= stream.getvalue().count("\r") <= 12
    assert "\x1b[?25l" not in stream.getvalue()  # the cursor stays


def test_a_pipe_gets_plain_lines_now_and_then():
    stream = io.StringIO()
    observed(Terminal(stream), num_steps=25, clock=Clock(0.0))
    assert stream.getvalue().splitlines() == [
        "step  1/25    4%  loss 8.000",
        "step 11/25   44%  loss 0.7273  1.00k tokens/s  0:14 left",
        "step 21/25   84%  loss 0.3810  1.00k tokens/s  0:04 left",
        "step 25/25  100%  loss 0.3200  1.00k tokens/s  in 0:25",
    ]


def test_the_time_left_counts_pauses_and_the_speed_does_not():
    stream, clock = Tty(), Clock(0.0)
    terminal = Terminal(stream)
    stopwatch = Stopwatch(now=clock)
    run = context(
        terminal=terminal, num_steps=5, stopwatch=stopwatch, units_per_step=1000
    )
    act = Progress(run, now=clock)
    for step in (1, 2, 3):
        clock.seconds += 1.0
        act(step, metrics={"learning/total": 1.0})
        if step < 3:
            with stopwatch.paused("evaluating"):
                clock.seconds += 2.0
    assert screen(stream.getvalue())[0].endswith("1.00k tokens/s  0:06 left")


def test_lines_are_printed_above_the_live_line():
    stream = Tty()
    terminal = Terminal(stream)
    terminal.show(HALF)
    terminal.print(f"held out: {'loss 4.5 ' * 20}")
    terminal.show(step_bar(2, 2, values={}))
    terminal.close()
    assert screen(stream.getvalue()) == [
        f"held out: {'loss 4.5 ' * 20}".rstrip(),
        f"2/2 {'━' * 30} 100%",
        "",
    ]


def test_a_pause_is_announced_in_place_of_the_time_left():
    stream = Tty()
    terminal = Terminal(stream)
    stopwatch = Stopwatch(announce=terminal.status)
    terminal.show(HALF)
    with stopwatch.paused("evaluating"):
        assert screen(stream.getvalue()) == [f"1/2 {BAR}  50%  evaluating…"]
    assert screen(stream.getvalue()) == [f"1/2 {BAR}  50%  0:12 left"]


def test_what_others_print_goes_above_and_into_files_as_before(monkeypatch, capsys):
    stream = Tty()
    monkeypatch.setattr("sys.stdout", stream)
    terminal = Terminal()
    terminal.show(HALF)
    print("a warning")
    print("for the log", file=sys.stderr)
    assert screen(stream.getvalue())[0] == "a warning"
    assert capsys.readouterr().err == "for the log\n"
    terminal.close()
    assert sys.stdout is stream


def test_a_unit_of_a_sweep_has_the_bar_of_the_sweep_above_its_own(monkeypatch):
    for name, value in sweep_unit.environment(Place(2, 4, "lr=0.003\x1b[2J")).items():
        monkeypatch.setenv(name, value)
    stream = Tty()
    terminal = Terminal(stream)
    terminal.show(HALF)
    (outer, own) = screen(stream.getvalue())
    assert re.fullmatch("unit 2/4 [━╸╺]{30}  37%  lr=0.003.x1b.2J", outer)
    assert own == f"     1/2 {BAR}  50%  0:12 left"
    terminal.close()
    assert screen(stream.getvalue()) == [f"1/2 {BAR}  50%  0:12 left", ""]


@pytest.mark.parametrize("place", ["", "1/2", "0/4 a", "5/4 a", "a/b c"])
def test_what_is_no_place_in_a_sweep_draws_nothing(monkeypatch, place):
    monkeypatch.setenv("RETORT_UNIT", place)
    assert (sweep_unit.read() is None) == (place != "1/2")


def test_a_pause_before_the_first_step_is_announced_too():
    stream = Tty()
    terminal = Terminal(stream)
    with Stopwatch(announce=terminal.status).paused("compiling"):
        assert screen(stream.getvalue()) == ["compiling…"]
    assert screen(stream.getvalue()) == [""]
    terminal.status("compiling")
    terminal.show(HALF)
    assert screen(stream.getvalue()) == [f"1/2 {BAR}  50%  0:12 left"]


def test_nothing_fancy_where_it_cannot_be_shown(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Tty()
    stream.encoding = "ascii"
    terminal = Terminal(stream)
    observed(terminal, num_steps=2, clock=Clock(0.0))
    assert stream.getvalue().isascii()
    assert "\x1b[3" not in stream.getvalue()
    monkeypatch.setenv("TERM", "dumb")
    assert not Terminal(stream).live


def test_a_pseudo_terminal_without_a_size_is_none():
    reader, writer = pty.openpty()  # as mpirun gives one to each rank
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        assert stream.isatty() and not Terminal(stream).live
    os.close(reader)


def test_a_real_pseudo_terminal_is_live():
    reader, writer = pty.openpty()
    termios.tcsetwinsize(writer, (24, 80))
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        terminal = Terminal(stream)
        observed(terminal, num_steps=2, clock=Clock(0.0))
        terminal.close()
        sent = b""
        while b"0:02\r\n" not in sent:
            sent += os.read(reader, 65536)
    os.close(reader)
    assert terminal.live
    assert screen(sent.decode().replace("\r\n", "\n"))[0].startswith("2/2 ━━━")


FIRST_WORD = """
import sys
from runner import main
from runner.files import early_line, sweep_unit
from runner.files.sweep_unit import Place
shown = early_line.show
def show(text):
    shown(text)
    heavy = {"jax", "fiddle", "numpy"} & set(sys.modules)
    raise SystemExit(f"imported {sorted(heavy)}")
early_line.show = show
main.main(["runner", "--fdl_config=configs/moe.py", "--workdir=nowhere"])
"""


def test_a_command_says_a_word_before_it_imports_anything_large():
    """What comes before the word is Python's own start: a tenth of a second."""
    reader, writer = pty.openpty()
    termios.tcsetwinsize(writer, (24, 80))
    ended = subprocess.run(
        [sys.executable, "-c", FIRST_WORD],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
    )
    os.close(writer)
    assert ended.stderr == "imported []\n"
    assert screen(os.read(reader, 65536).decode()) == ["reading the graph…"]
    os.close(reader)


def test_the_first_word_is_taken_away_and_a_file_never_has_it(monkeypatch, capsys):
    early_line.show("reading the graph")
    early_line.clear()
    assert capsys.readouterr().out == ""
    stream = Tty()
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setattr(early_line, "_is_terminal", lambda: True)
    early_line.show("reading the graph")
    Terminal(io.StringIO())
    assert screen(stream.getvalue()) == [""]
