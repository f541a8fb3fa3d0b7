#!/usr/bin/env bash
# argcomplete 3.7.2 (Python 3.11): autocomplete(parser, output_stream=..., exit_method=...)
# closes file descriptor 9 of the process, the second time that it is called.
#
# Guess:  with a stream of one's own to write to and an exit method of one's own, a call
#         touches nothing else of the process: that is how a completer is tested.
# Seen:   it opens descriptor 9 for its debug messages all the same (no _ARC_DEBUG is set),
#         and where that is open keeps a file object of it, which the next call replaces:
#         the old one is collected, and closes 9. Whatever the program had there is gone:
#         pytest's faulthandler keeps its copy of stderr at 9, and the whole run ends in
#         "OSError: [Errno 9] Bad file descriptor".
#
#         offered --verbose
#         offered --verbose
#         descriptor 9: [Errno 9] Bad file descriptor
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet argcomplete==3.7.2

"$folder/venv/bin/python" - "$folder/log" <<'PYTHON'
import argparse
import io
import os
import sys

import argcomplete

log = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
os.dup2(log, 9)  # a file of the program's own, which happens to be the ninth

parser = argparse.ArgumentParser(prog="tool")
parser.add_argument("--verbose", action="store_true")
line = "tool --verb"
os.environ |= {
    "_ARGCOMPLETE": "1",
    "COMP_LINE": line,
    "COMP_POINT": str(len(line)),
}
stream = io.StringIO()


class Ended(Exception):
    pass


def leave(code):
    raise Ended


for _ in range(2):
    try:
        argcomplete.autocomplete(parser, output_stream=stream, exit_method=leave)
    except Ended:
        print("offered", stream.getvalue().strip())
        stream = io.StringIO()
try:
    os.write(9, b"a line of the program's log")
except OSError as error:
    print(f"descriptor 9: {error}")
else:
    raise SystemExit("descriptor 9 is left alone now")
PYTHON
