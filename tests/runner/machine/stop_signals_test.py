import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from runner.machine import stop_signals
from runner.machine.stop_signals import Stop, StopAsked

ROOT = Path(__file__).parents[3]

# Counts until asked to stop, then says so; `tail` is what it does afterwards.
COUNTER = """
import signal, sys, time
from runner.machine import stop_signals
from runner.machine.stop_signals import Stop, StopAsked
signal.signal(signal.SIGINT, {before})
with Stop() as stop:
    print("open", flush=True)
    while not stop.requested:
        time.sleep(0.01)
    print("saved", stop.signal.name, flush=True)
    {tail}
sys.exit(stop.exit_code)
"""


def start(tail="pass", before="signal.default_int_handler"):
    return subprocess.Popen(
        [sys.executable, "-c", COUNTER.format(tail=tail, before=before)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def said(process):
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)]
)
def test_a_signal_is_a_clean_exit_with_its_code(number, code):
    with start() as counter:
        assert said(counter) == "open\n"
        counter.send_signal(number)
        out, err = counter.communicate(timeout=20)
    assert (out, err) == (f"saved {number.name}\n", "")
    assert counter.returncode == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_two_signals_within_a_second_are_one_and_a_later_one_ends_it(number):
    with start("time.sleep(60)") as counter:
        said(counter)
        counter.send_signal(number)
        assert said(counter) == f"saved {number.name}\n"
        counter.send_signal(number)
        time.sleep(1.1)
        assert counter.poll() is None
        counter.send_signal(number)
        _, err = counter.communicate(timeout=20)
    assert counter.returncode == -number
    assert ("KeyboardInterrupt" in err) == (number == signal.SIGINT)


def test_a_later_interrupt_ends_what_a_shell_has_ignore_interrupts():
    with start("time.sleep(60)", before="signal.SIG_IGN") as counter:
        said(counter)
        counter.send_signal(signal.SIGINT)
        assert said(counter) == "saved SIGINT\n"
        time.sleep(1.1)
        counter.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in counter.communicate(timeout=20)[1]


def test_without_a_signal_the_code_is_zero_and_the_handlers_are_as_before():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with Stop() as stop:
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (stop.requested, stop.exit_code) == (False, 0)
    after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert after == before


def test_a_signal_in_this_process_is_seen_at_the_next_look():
    with Stop() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested and stop.exit_code == 0


def test_in_another_thread_it_asks_nothing():
    seen = []

    def look():
        with Stop() as stop:
            seen.append(stop.requested)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [False]


def test_a_signal_ends_a_wait_for_what_may_never_come():
    never, begin = threading.Event(), time.monotonic()
    with Stop() as stop:
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(StopAsked), stop.at_once():
            never.wait(30)
        # Threads that wait beside it, and the next wait, end too.
        with pytest.raises(StopAsked):
            stop_signals.wait(never, 30)
        with pytest.raises(StopAsked), stop.at_once():
            never.wait(30)
        timer.join()
    assert stop.exit_code == 130 and time.monotonic() - begin < 10
    with Stop():
        stop_signals.wait(never, 0.0)
