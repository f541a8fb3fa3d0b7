"""`python -m runner.exchange` is `runner-records`."""

from runner.exchange.main import run

if __name__ == "__main__":
    run()
