"""Configuration files and the calls of their functions, on a command line."""

from runner.graph import source


def test_an_address_in_an_argument_is_no_path():
    call = 'at("http://127.0.0.1:8000", "teacher")'
    assert source.split(call) == (call, "")
    assert source.split(f"configs/served.py:{call}") == ("configs/served.py", call)
