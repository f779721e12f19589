"""What every test may use: async tests, the published vectors, and a loopback that warns about nothing."""

import asyncio
import inspect
import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run ``async def`` tests in a fresh event loop; no plugin needed."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of published vectors (``CONTRAST_VECTORS``); the test is skipped where it is absent."""
    folder = Path(os.environ.get("CONTRAST_VECTORS", PROJECT.parent / "shared" / "vectors"))
    if not folder.is_dir():
        pytest.skip(f"no published vectors at {folder}: set CONTRAST_VECTORS to their folder")
    return folder
