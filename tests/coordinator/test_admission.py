"""Bounds on strangers: challenges, concurrency, rates, and the number of refusal events."""

import hashlib
import hmac
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.admission import (
    CHALLENGE_LIFE_MS,
    REFUSAL_CODES,
    REFUSAL_WINDOW_MS,
    Challenges,
    Gate,
    PolicyRates,
    RefusalCounter,
)
from coordinator.errors import BusyError, ChallengeExpiredError, ChallengeUnknownError, RateLimitedError

KEY, RANDOM = b"k" * 32, b"r" * 8


def test_a_challenge_has_the_documented_bytes() -> None:
    """Format of docs/formats.md section 5: another replica with the same key would refuse it otherwise."""
    nonce = Challenges(KEY).make(now_ms=5, random=RANDOM)
    stamp = (5).to_bytes(8, "big") + RANDOM
    assert nonce == stamp + hmac.digest(KEY, b"contrast/challenge/v1\x00" + stamp, hashlib.sha256)[:16]


@pytest.mark.parametrize("age", [0, 1, CHALLENGE_LIFE_MS])
def test_a_fresh_challenge_is_accepted(age: int) -> None:
    challenges = Challenges(KEY)
    challenges.check(challenges.make(now_ms=1000, random=RANDOM), now_ms=1000 + age)


def test_an_old_challenge_is_refused() -> None:
    challenges = Challenges(KEY)
    nonce = challenges.make(now_ms=1000, random=RANDOM)
    with pytest.raises(ChallengeExpiredError):
        challenges.check(nonce, now_ms=1001 + CHALLENGE_LIFE_MS)
    with pytest.raises(ChallengeExpiredError):
        challenges.check(nonce, now_ms=999)


def test_a_challenge_of_another_epoch_is_unknown() -> None:
    nonce = Challenges(b"x" * 32).make(now_ms=1000, random=RANDOM)
    with pytest.raises(ChallengeUnknownError):
        Challenges(KEY).check(nonce, now_ms=1000)


@given(position=st.integers(0, 31), flip=st.integers(1, 255))
def test_no_changed_byte_of_a_challenge_passes(position: int, flip: int) -> None:
    """Its time could be moved otherwise."""
    challenges = Challenges(KEY)
    nonce = bytearray(challenges.make(now_ms=1000, random=RANDOM))
    nonce[position] ^= flip
    with pytest.raises(ChallengeUnknownError):
        challenges.check(bytes(nonce), now_ms=1000)


@given(st.binary(max_size=64))
def test_no_guess_is_a_challenge(guess: bytes) -> None:
    with pytest.raises(ChallengeUnknownError):
        Challenges(KEY).check(guess, now_ms=0)


def test_one_peer_cannot_take_every_place() -> None:
    gate = Gate(per_peer=2, per_route=3)
    with gate.hold("a", "p"), gate.hold("b", "p"):
        with pytest.raises(BusyError), gate.hold("c", "p"):
            pass
        with gate.hold("a", "q"), gate.hold("a", "r"), pytest.raises(BusyError), gate.hold("a", "s"):
            pass
    assert gate.in_work == 0
    with gate.hold("a", "p"):
        assert gate.in_work == 1


def test_heavy_routes_have_fewer_places() -> None:
    """Large bodies of many peers would use up the memory otherwise."""
    gate = Gate(per_peer=9, per_route=9, heavy={"heavy": 1, "light": 99})
    with gate.hold("heavy", "p"), pytest.raises(BusyError), gate.hold("heavy", "q"):
        pass
    with gate.hold("heavy", "q"), gate.hold("light", "q"):
        assert gate.in_work == 2


def test_a_place_comes_back_after_an_error() -> None:
    gate = Gate(per_peer=1, per_route=1)
    with pytest.raises(ValueError), gate.hold("a", "p"):
        raise ValueError
    with gate.hold("a", "p"):
        pass


def test_a_policy_has_its_burst_and_then_its_rate() -> None:
    rates = PolicyRates(burst=3, refill_per_s=50)
    for _ in range(3):
        rates.take(b"p", now_ms=0)
    with pytest.raises(RateLimitedError):
        rates.take(b"p", now_ms=0)
    rates.take(b"q", now_ms=0)  # Policies do not share a bucket.
    rates.take(b"p", now_ms=20)
    with pytest.raises(RateLimitedError):
        rates.take(b"p", now_ms=39)
    rates.take(b"p", now_ms=40)
    rates.keep_only(lambda policy: policy == b"q")
    rates.take(b"p", now_ms=40)


@given(
    st.lists(st.tuples(st.integers(0, 50_000), st.sampled_from([*REFUSAL_CODES, "odd", "\u00e9" * 900])), max_size=300)
)
def test_refusals_are_told_rarely_and_none_is_lost(events: list[tuple[int, str]]) -> None:
    """A flood would grow the ledger otherwise, or an auditor would miss some of it."""
    counter, told, now_ms = RefusalCounter(), [], 0
    for step, code in events:
        now_ms += step
        counter.count(code, now_ms=now_ms, seen=code * 300, wanted="w" * 600)
        told += [(now_ms, refusals) for refusals in counter.due(now_ms=now_ms)]
    now_ms += REFUSAL_WINDOW_MS
    told += [(now_ms, refusals) for refusals in counter.due(now_ms=now_ms)]
    assert not counter.waiting
    assert sum(refusals.count for _, refusals in told) == len(events)
    for code in REFUSAL_CODES:
        times = [when for when, refusals in told if refusals.code == code]
        assert all(later - earlier >= REFUSAL_WINDOW_MS for earlier, later in itertools.pairwise(times))
    for _, refusals in told:
        assert refusals.code in REFUSAL_CODES
        assert refusals.first_ms <= refusals.last_ms
        assert len((refusals.seen + refusals.wanted).encode()) <= 512


def test_there_are_sixteen_refusal_codes() -> None:
    assert len(set(REFUSAL_CODES)) == 16
