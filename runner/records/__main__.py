"""`python -m runner.records` is `runner-records`."""

from runner.records.main import run

if __name__ == "__main__":
    run()
