import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from runner.errors import UserError
from runner.workdir import lock

ROOT = Path(__file__).parents[3]


def start(body, path):
    """A process that runs `body` inside the lock, after it said so."""
    script = f"""
import os, sys, time
from pathlib import Path
from runner.workdir import lock
with lock.hold(Path({str(path)!r})):
{textwrap.indent(textwrap.dedent(body), "    ")}
"""
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


def said(process):
    assert process.stdout is not None
    return process.stdout.readline()


def test_a_second_run_is_refused_with_the_owner(tmp_path):
    with start("print('held', flush=True); time.sleep(60)", tmp_path / "lock") as owner:
        assert said(owner) == "held\n"
        with pytest.raises(UserError) as refusal, lock.hold(tmp_path / "lock"):
            pass
        owner.kill()
    message = str(refusal.value)
    assert str(tmp_path) in message
    assert f"process {owner.pid} on {socket.gethostname()}, since 20" in message
    assert len(message.splitlines()) <= 3


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_owner_holds_nothing(tmp_path, number):
    with start("print('held', flush=True); time.sleep(60)", tmp_path / "lock") as owner:
        assert said(owner) == "held\n"
        owner.send_signal(number)
    with lock.hold(tmp_path / "lock"):
        assert f'"pid": {os.getpid()}' in (tmp_path / "lock").read_text()


def test_a_forked_child_that_outlives_its_owner_holds_nothing(tmp_path):
    body = """
        if not os.fork():
            print(os.getpid(), flush=True)
            os.kill(os.getppid(), 9)
        time.sleep(60)
    """
    with start(body, tmp_path / "lock") as owner:
        child = int(said(owner))
        owner.wait()
        try:
            with lock.hold(tmp_path / "lock"):
                pass
        finally:
            os.kill(child, signal.SIGKILL)


def test_it_can_be_taken_again_after_its_end_and_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), lock.hold(tmp_path / "lock"):
        raise ZeroDivisionError
    with lock.hold(tmp_path / "lock"):
        pass
    assert (tmp_path / "lock").read_text() == ""


def test_it_is_refused_to_a_second_run_of_the_same_process(tmp_path):
    with (
        lock.hold(tmp_path / "lock"),
        pytest.raises(UserError, match="in use by process"),
        lock.hold(tmp_path / "lock"),
    ):
        pass


def test_an_unreadable_owner_is_still_an_owner(tmp_path):
    with lock.hold(tmp_path / "lock"):
        (tmp_path / "lock").write_text("{")
        with (
            pytest.raises(UserError, match="just starting"),
            lock.hold(tmp_path / "lock"),
        ):
            pass


def test_a_lock_that_cannot_be_made_says_why(tmp_path):
    with (
        pytest.raises(UserError, match="No such file"),
        lock.hold(tmp_path / "absent" / "lock"),
    ):
        pass
