"""What runs on a node, run: `runner` and Slurm's commands are stand-ins on PATH.

They behave as Slurm's own do (`cluster_test.py` runs those): `srun` answers SIGTERM by
killing its tasks, `scancel --signal` reaches the tasks alone.
"""

import os
import signal
import subprocess
import time

import pytest

from launch import shell, slurm, xpk
from tests.launch.specs import spec, unit

# Waits for SIGTERM like a run that saves a checkpoint, then ends as it is told to.
_RUNNER = """\
#!/bin/bash
echo "runner $*" >> "$LOG"
trap 'echo "runner got TERM" >> "$LOG"; exit "${END:-0}"' TERM
touch "$LOG.ready"
case "$BEHAVE" in
  finish) touch "$RESULT" ;;
  mistake) exit 2 ;;
  fail) exit 1 ;;
  wait) while :; do sleep 0.05; done ;;
esac
"""
_SRUN = """\
#!/bin/bash
shift
"$STAND_IN" "$@" &
echo $! > "$LOG.task"
trap 'kill -KILL $!' TERM HUP
wait $!
code=$?
exit "$code"
"""
_SCANCEL = """\
#!/bin/bash
echo "scancel $*" >> "$LOG"
kill -TERM "$(cat "$LOG.task")"
"""
_SCONTROL = '#!/bin/bash\necho "scontrol $*" >> "$LOG"\n'
_SLEEP = (
    '#!/bin/bash\n[ "$1" = 600 ] && exec echo slept >> "$LOG"\nexec /bin/sleep "$@"\n'
)


class Node:
    """A directory with stand-ins, and a script started among them."""

    def __init__(self, folder):
        self.folder, self.log = folder, folder / "log"
        self.log.touch()
        self.unit = unit(0, 0.001, sweep=folder)
        self.unit.path.mkdir(parents=True)
        self.result = self.unit.path / "result.json"
        self.bin = folder / "bin"
        self.bin.mkdir()
        programs = {
            "runner": _RUNNER,
            "srun": _SRUN,
            "scancel": _SCANCEL,
            "scontrol": _SCONTROL,
        }
        for name, text in {**programs, "sleep": _SLEEP}.items():
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)

    def start(self, text, behave, *, interpreter="sh", **environment):
        return subprocess.Popen(
            [interpreter, "-c", text],
            env={
                "PATH": f"{self.bin}:{os.environ['PATH']}",
                "LOG": str(self.log),
                "RESULT": str(self.result),
                "STAND_IN": str(self.bin / "runner"),
                "BEHAVE": behave,
                "SLURM_JOB_ID": "77",
                "SLURM_ARRAY_JOB_ID": "77",
                "SLURM_ARRAY_TASK_ID": "0",
                **environment,
            },
        )

    def terminate_task(self):
        """As Slurm preempts: SIGTERM to the tasks, none to srun or the script."""
        os.kill(int(self.log.with_suffix(".task").read_text()), signal.SIGTERM)

    def ready(self):
        deadline = time.monotonic() + 20
        while not self.log.with_suffix(".ready").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


def guarded(node):
    script = (
        f"unit={node.unit.name}\nresult='{node.result}'\nset -- --workdir=x\n"
        + shell.guarded('runner "$@" --more')
    )
    return [script, shell.one_line(script)]


@pytest.mark.parametrize("form", [0, 1], ids=["lines", "one_line"])
@pytest.mark.parametrize(
    "behave, code", [("finish", 0), ("mistake", 2), ("fail", 1), ("stopped", 143)]
)
def test_a_node_ends_in_zero_only_where_there_is_a_result(node, form, behave, code):
    child = node.start(guarded(node)[form], behave)
    assert child.wait(timeout=20) == code
    assert node.log.read_text() == "runner --workdir=x --more\n"


@pytest.mark.parametrize("form", [0, 1], ids=["lines", "one_line"])
def test_a_node_passes_sigterm_on_and_waits_for_the_checkpoint(node, form):
    child = node.start(guarded(node)[form], "wait")
    node.ready()
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=20) == 143
    assert "runner got TERM" in node.log.read_text()


def test_a_finished_unit_is_not_started_again(node, capfd):
    node.result.touch()
    assert node.start(guarded(node)[0], "finish").wait(timeout=20) == 0
    assert node.log.read_text() == ""
    assert capfd.readouterr().out == f"{node.unit.name}: finished\n"


def test_what_xpk_is_given_runs_in_the_parentheses_it_is_put_in(node):
    options = xpk.Options(cluster="c", image="i", accelerators="v5litepod-16")
    text = xpk.render(spec(units=(node.unit,)), options)
    (node.bin / "xpk").write_text(
        '#!/bin/bash\nprintf %s "${@: -1}" > "$LOG.command"\n'
    )
    (node.bin / "xpk").chmod(0o755)
    assert node.start(text, "", interpreter="bash").wait(timeout=20) == 0
    command = node.log.with_suffix(".command").read_text().removeprefix("--command=")
    assert node.start(f"({command}) & wait $!", "finish").wait(timeout=20) == 0
    assert "--gin.distributed.detect=True" in node.log.read_text()


def batch(node, behave, **environment):
    text = slurm.render(spec(units=(node.unit,)), slurm.Options())
    return node.start(text, behave, interpreter="bash", **environment)


@pytest.mark.parametrize("behave, code", [("finish", 0), ("mistake", 2), ("fail", 1)])
def test_slurm_sees_how_a_unit_ended_and_tries_no_mistake_again(node, behave, code):
    assert batch(node, behave).wait(timeout=20) == code
    assert "scontrol" not in node.log.read_text()


def test_slurm_starts_no_finished_unit(node):
    node.result.touch()
    assert batch(node, "finish").wait(timeout=20) == 0
    assert node.log.read_text() == ""


def test_a_task_out_of_time_saves_and_goes_back_into_the_queue(node):
    child = batch(node, "wait")
    node.ready()
    child.send_signal(signal.SIGUSR1)
    assert child.wait(timeout=20) == 0
    assert node.log.read_text().splitlines()[1:] == [
        "scancel --signal=TERM 77_0.0",
        "runner got TERM",
        "scontrol requeue 77_0",
    ]


def test_a_mistake_that_shows_at_the_time_limit_is_not_tried_again(node):
    child = batch(node, "wait", END="2")
    node.ready()
    child.send_signal(signal.SIGUSR1)
    assert child.wait(timeout=20) == 2
    assert "scontrol" not in node.log.read_text()


def test_a_preempted_task_saves_and_leaves_the_queue_to_slurm(node):
    child = batch(node, "wait")
    node.ready()
    node.terminate_task()
    assert child.wait(timeout=20) == 143
    assert node.log.read_text().splitlines()[1:] == ["runner got TERM", "slept"]


def test_a_cancelled_task_is_awaited(node):
    child = batch(node, "wait", END="1")
    node.ready()
    child.send_signal(signal.SIGTERM)
    node.terminate_task()
    assert child.wait(timeout=20) == 1
    assert node.log.read_text().splitlines()[1:] == ["runner got TERM"]


def test_a_task_that_the_array_does_not_have_is_a_mistake(node, capfd):
    assert batch(node, "finish", SLURM_ARRAY_TASK_ID="5").wait(timeout=20) == 2
    assert "no unit 5: there are 1" in capfd.readouterr().err
