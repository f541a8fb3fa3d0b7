"""The switch that rewrites goldens: `pytest tests/configs --rewrite_goldens`."""


def pytest_addoption(parser):
    parser.addoption(
        "--rewrite_goldens",
        action="store_true",
        help="write tests/golden/*.txt from configs/*.py instead of comparing",
    )
