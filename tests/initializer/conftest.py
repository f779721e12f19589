"""Logging as the library has it, before and after each test: programs configure it for the whole process."""

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def plain_logging() -> Iterator[None]:
    """A test that reads logs must not depend on which program an earlier test started."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()
