"""Every reader of strangers' bytes, within the suite: nothing comes out but the declared refusals, and not late."""

import contextlib
import importlib
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.every import TARGETS

_SLOWEST_S = 10.0  # Of CPU: far above what any input takes, far below what a quadratic reader would.
_MAX = 131_072


def feed(name: str, data: bytes) -> None:
    target = TARGETS[name]
    began = time.process_time()
    with contextlib.suppress(*target.refusals):
        target.read(data)
    assert time.process_time() - began < _SLOWEST_S


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed with some bytes changed, inserted, removed or repeated; or anything at all."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 4)):
            case 0 if data:
                data[min(at, len(data) - 1)] = draw(st.integers(0, 255))
            case 1:
                data[at:at] = draw(st.binary(max_size=40))
            case 2:
                del data[at : at + draw(st.integers(1, 200))]
            case 3:
                data[at:at] = data[at : at + draw(st.integers(1, 200))]
            case _:
                width = draw(st.sampled_from([1, 2, 4]))
                data[at : at + width] = draw(st.sampled_from([b"\0", b"\xff", b"\x80"])) * width
    return bytes(data[:_MAX])


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_damaged_input_is_refused_and_nothing_else_happens(name: str) -> None:
    seeds = list(TARGETS[name].seeds())

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(damaged(seeds) | st.binary(max_size=3000))
    def run(data: bytes) -> None:
        feed(name, data)

    run()


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_what_grows_takes_no_longer_than_its_length(name: str) -> None:
    """Repetition of what each format nests or lists: brackets, sequences, table entries, PEM blocks, long numbers."""
    for pattern in (
        b"[",
        b'{"a":',
        b"0",
        b"\x30\x80",
        b"\x30\x82\xff\xff",
        b"\xa3\x84\xff\xff\xff\xff",
        b"-----BEGIN CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
        bytes(range(1, 25)),
        b"\xff",
        b"HCLA\1\0\0\0",
        b"\4\0\2\0\x81\0\0\0",
    ):
        feed(name, (pattern * (_MAX // len(pattern)))[:_MAX])


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_every_target_has_its_program(name: str) -> None:
    module = importlib.import_module(f"tests.fuzz.{name}")
    assert Path(module.__file__ or "").name == f"{name}.py"
    assert callable(module.main)
