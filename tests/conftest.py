"""Settings that all tests share."""

import pytest
from hypothesis import HealthCheck, settings

# No deadline: a busy machine is not a bug. A failing example is printed so that it can be kept.
settings.register_profile(
    "default",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=20_000)
settings.load_profile("default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite", action="store_true", help="rewrite the expected output of golden scripts"
    )
