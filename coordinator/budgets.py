"""What all strangers, and each of them, may cost over time: token buckets in constant memory. No clock of its own."""

import hashlib
import math
from array import array
from dataclasses import dataclass
from typing import Final

from coordinator.errors import RateLimitedError

_SLOTS: Final = 4096


@dataclass(frozen=True, slots=True)
class Rate:
    """*burst* at once, *refill_per_s* a second after that."""

    burst: int
    refill_per_s: float


class Credit:
    """A bucket for each peer, which says who has had more than his share; it refuses nobody.

    Peers share *_SLOTS* buckets by a keyed hash: however many there are, memory stays the same, and nobody can choose
    with whom he shares.

    Args:
        peer: The rate of each peer.
        key: Random, secret.
    """

    def __init__(self, peer: Rate, *, key: bytes) -> None:
        self._peer = peer
        self._key = key
        # How full each bucket was, and when; since when counts from 0, so an untouched bucket is full.
        self._tokens = array("d", [float(peer.burst)]) * _SLOTS
        self._since_ms = array("q", [0]) * _SLOTS

    def has(self, peer: str, *, now_ms: int) -> bool:
        """Whether *peer* has a token left at *now_ms* (monotonic)."""
        return self._filled(self._slot(peer), now_ms) >= 1

    def spend(self, peer: str, *, now_ms: int) -> None:
        """Take one token of *peer*; a bucket is never emptier than empty."""
        slot = self._slot(peer)
        self._keep(slot, max(0.0, self._filled(slot, now_ms) - 1), now_ms)

    def _slot(self, peer: str) -> int:
        return int.from_bytes(hashlib.blake2b(peer.encode(), key=self._key, digest_size=4).digest()) % _SLOTS

    def _filled(self, slot: int, now_ms: int) -> float:
        return min(float(self._peer.burst), self._tokens[slot] + _gained(self._peer, now_ms - self._since_ms[slot]))

    def _keep(self, slot: int, tokens: float, now_ms: int) -> None:
        self._tokens[slot], self._since_ms[slot] = tokens, now_ms


class Budget(Credit):
    """Buckets for all peers together and for each peer, for what must have an end whoever asks.

    Args:
        what: What is asked for, for the refusal.
        peer: The rate of each peer.
        everybody: The rate of all together.
        key: Random, secret.
    """

    def __init__(self, what: str, *, peer: Rate, everybody: Rate, key: bytes) -> None:
        super().__init__(peer, key=key)
        self._what = what
        self._everybody = everybody
        self._all_tokens = float(everybody.burst)
        self._all_since_ms = 0

    def take(self, peer: str, *, now_ms: int) -> None:
        """Take one token of *peer* and one of everybody's at *now_ms* (monotonic).

        Half of everybody's is for peers with a token of their own. The other half is anybody's: many may stand behind
        one address, and one of them must not lock out the others while there is plenty.

        Raises:
            RateLimitedError: The buckets are empty, as far as they are for this peer; it says how long to wait.
        """
        slot, rate = self._slot(peer), self._everybody
        own = self._filled(slot, now_ms)
        left = min(float(rate.burst), self._all_tokens + _gained(rate, now_ms - self._all_since_ms))
        if own < 1 and left < rate.burst / 2 + 1:
            raise self._refusal(own, self._peer, "of this peer")
        if left < 1:
            raise self._refusal(left, rate, "of all peers together")
        self._all_tokens, self._all_since_ms = left - 1, now_ms
        self._keep(slot, max(0.0, own - 1), now_ms)

    def _refusal(self, tokens: float, rate: Rate, whose: str) -> RateLimitedError:
        return RateLimitedError(
            f"Too many {self._what} {whose}.",
            wanted=f"{rate.burst} at once, then {rate.refill_per_s:g} a second",
            retry_after_s=wait_s(tokens, rate.refill_per_s),
        )


def wait_s(tokens: float, refill_per_s: float) -> int:
    """Whole seconds until a bucket that holds *tokens* holds one."""
    return max(1, math.ceil((1 - tokens) / refill_per_s))


def _gained(rate: Rate, elapsed_ms: int) -> float:
    return max(0, elapsed_ms) * rate.refill_per_s / 1000
