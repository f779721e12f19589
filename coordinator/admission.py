"""Who may ask for how much: challenges, concurrency, rates, counted refusals. No I/O, no clock of its own."""

import asyncio
import hmac
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from coordinator.budgets import wait_s
from coordinator.errors import (
    BusyError,
    ChallengeExpiredError,
    ChallengeUnknownError,
    RateLimitedError,
    ShuttingDownError,
)

CHALLENGE_LIFE_MS = 120_000
"""Milliseconds of the Coordinator's monotonic clock for which a challenge holds."""
REFUSAL_WINDOW_MS = 600_000
"""At most one refusal event of each code in this many milliseconds."""
REFUSAL_CODES = (
    "bad_csr", "binding_mismatch", "challenge_unknown", "head_mismatch", "unknown_policy", "rate_limited",
    "evidence_malformed", "evidence_chain", "evidence_signature", "evidence_tcb", "evidence_guest_policy",
    "evidence_platform", "evidence_measurement", "evidence_identity", "evidence_kind", "other",
)  # fmt: skip
"""The 16 codes of ``attestation.refused``; whatever else happens counts as ``other``."""
_SAMPLE_BYTES = 512
_SHARE = 4
_PATIENCE_S = 2.0
_SLOW = 32 * 1024  # Bytes a second: what comes slower makes way for who waits outside.
_LABEL = b"contrast/challenge/v1\x00"


class Challenges:
    """Stateless challenges (docs/formats.md section 5): ``t[8] r[8] HMAC-SHA-256(key, label t r)[:16]``.

    Args:
        key: The epoch's MAC key, 32 bytes; a challenge of another epoch is unknown to this one.
    """

    def __init__(self, key: bytes) -> None:
        self._mac = hmac.new(key, _LABEL, "sha256")

    def make(self, *, now_ms: int, random: bytes) -> bytes:
        """A challenge made at *now_ms* (monotonic, milliseconds) with 8 fresh random bytes."""
        stamp = now_ms.to_bytes(8, "big") + random[:8]
        return stamp + self._tag(stamp)

    def check(self, nonce: bytes, *, now_ms: int) -> None:
        """Accept *nonce* if this epoch made it within the last two minutes.

        Raises:
            ChallengeUnknownError: It was not made with this key.
            ChallengeExpiredError: It was, longer ago than two minutes.
        """
        if len(nonce) != 32 or not hmac.compare_digest(self._tag(nonce[:16]), nonce[16:]):
            raise ChallengeUnknownError
        age_ms = now_ms - int.from_bytes(nonce[:8], "big")
        if not 0 <= age_ms <= CHALLENGE_LIFE_MS:
            raise ChallengeExpiredError(
                seen=f"{age_ms / 1000:.0f} s old", wanted=f"at most {CHALLENGE_LIFE_MS // 1000} s"
            )

    def _tag(self, stamp: bytes) -> bytes:
        mac = self._mac.copy()  # The key schedule is done once.
        mac.update(stamp)
        return mac.digest()[:16]


@dataclass(slots=True, eq=False, kw_only=True)
class Reading:
    """A request whose body is on its way: whose, since when (seconds of the event loop), how much has come."""

    route: str
    peer: str
    end: asyncio.Timeout
    began_s: float
    received: int = 0
    gave_way: bool = False

    def is_slow(self, now_s: float) -> bool:
        """Whether it has had its time, and less came in it than a slow line brings."""
        age_s = now_s - self.began_s
        return age_s >= _PATIENCE_S and self.received < age_s * _SLOW


class Gate:
    """Bounds on requests in work: per route over all peers, per peer over all routes, and per peer and route.

    Args:
        per_peer: How many of one peer.
        per_route: How many of one route.
        heavy: Routes that have fewer places, because each of their requests may take much memory. One peer gets a
            quarter of a route's places at most, and half of those that are left: however much a few peers have in
            work, a newcomer finds a place.

    Where there is none, the request whose body has been awaited longest makes way, if it hardly comes: a few headers
    would hold every place of an address that many stand behind.
    """

    def __init__(self, *, per_peer: int, per_route: int, heavy: Mapping[str, int] | None = None) -> None:
        self._per_peer = per_peer
        self._per_route = per_route
        self._heavy = heavy or {}
        self._peers: dict[str, int] = {}
        self._routes: dict[str, int] = {}
        self._shares: dict[str, int] = {}
        self._readings: dict[Reading, None] = {}  # The oldest first.
        self._closed = False
        self.idle = asyncio.Event()
        """Set while nothing is in work."""
        self.idle.set()

    def close(self) -> None:
        """Let nobody in any more; those inside finish."""
        self._closed = True

    @contextmanager
    def hold(self, route: str, peer: str) -> Iterator[None]:
        """Hold one place of *route* and one of *peer*.

        Raises:
            BusyError: One of them has no place left.
            ShuttingDownError: The Coordinator stops.
        """
        if self._closed:
            raise ShuttingDownError
        at_peer, at_route = self._peers.get(peer, 0), self._routes.get(route, 0)
        both = f"{peer} {route}"
        share = self._shares.get(both, 0)
        most = min(self._per_route, self._heavy.get(route, self._per_route))
        allowed = max(1, min(most // _SHARE, (most - at_route) // 2))
        busy = self._busy(at_peer, at_route, share, most=most, allowed=allowed)
        if busy is not None:
            of_peer = at_peer >= self._per_peer or share >= allowed
            of_route = at_route >= most or share >= allowed
            if not self._make_way(peer if of_peer else None, route if of_route else None):
                raise busy
        self._peers[peer], self._routes[route], self._shares[both] = at_peer + 1, at_route + 1, share + 1
        self.idle.clear()
        try:
            yield
        finally:
            _release(self._peers, peer)
            _release(self._routes, route)
            _release(self._shares, both)
            if not self._routes:
                self.idle.set()

    def _busy(self, at_peer: int, at_route: int, share: int, *, most: int, allowed: int) -> BusyError | None:
        """Why there is no place, if there is none."""
        if at_peer >= self._per_peer:
            return BusyError(
                "This peer has too many requests in work.", seen=str(at_peer + 1), wanted=f"at most {self._per_peer}"
            )
        if at_route >= most:
            return BusyError("This route has too many requests in work.", wanted=f"at most {most}")
        if share >= allowed:
            return BusyError(
                "This peer has its share of this route's places.", seen=str(share + 1), wanted=f"at most {allowed}"
            )
        return None

    @contextmanager
    def reading(self, route: str, peer: str, end: asyncio.Timeout) -> Iterator["Reading"]:
        """Hold a place whose request's body is awaited until *end*, which comes at once if it makes way."""
        reading = Reading(route=route, peer=peer, end=end, began_s=asyncio.get_running_loop().time())
        self._readings[reading] = None
        try:
            yield reading
        finally:
            self._readings.pop(reading, None)

    def _make_way(self, peer: str | None, route: str | None) -> bool:
        """Take the place of the longest awaited of these requests that hardly comes; False if there is none."""
        if not self._readings:
            return False
        now_s = asyncio.get_running_loop().time()
        for reading in self._readings:
            fits = peer in (None, reading.peer) and route in (None, reading.route)
            if fits and reading.is_slow(now_s):
                del self._readings[reading]
                reading.gave_way = True
                reading.end.reschedule(now_s)
                return True
        return False

    @property
    def in_work(self) -> int:
        """How many requests are held at the moment."""
        return sum(self._routes.values())


class PolicyRates:
    """A token bucket per policy: *burst* certificates at once, *refill_per_s* a second after that.

    Only policies of the manifest in force reach it, so its size is bounded by the manifest.
    """

    def __init__(self, *, burst: int, refill_per_s: float) -> None:
        self._burst = float(burst)
        self._refill_per_ms = refill_per_s / 1000
        self._buckets: dict[bytes, tuple[float, int]] = {}

    def take(self, policy: bytes, *, now_ms: int) -> None:
        """Take one token of *policy* at *now_ms* (monotonic).

        Raises:
            RateLimitedError: The bucket is empty.
        """
        tokens, since_ms = self._buckets.get(policy, (self._burst, now_ms))
        tokens = min(self._burst, tokens + (now_ms - since_ms) * self._refill_per_ms)
        if tokens < 1:
            self._buckets[policy] = (tokens, now_ms)
            raise RateLimitedError(
                "Too many certificates for this policy.",
                retry_after_s=wait_s(tokens, self._refill_per_ms * 1000),
                seen=f"policy {policy.hex()[:16]}…",
                wanted=f"{self._burst:.0f} at once, then {self._refill_per_ms * 1000:g} a second",
            )
        self._buckets[policy] = (tokens - 1, now_ms)

    def give_back(self, policy: bytes) -> None:
        """Return a token that led to no certificate, so that refused requests do not use up a policy's share."""
        tokens, since_ms = self._buckets.get(policy, (self._burst, 0))
        self._buckets[policy] = (min(self._burst, tokens + 1), since_ms)

    def keep_only(self, policies: Callable[[bytes], bool]) -> None:
        """Forget the buckets of policies that a new manifest does not name."""
        self._buckets = {policy: bucket for policy, bucket in self._buckets.items() if policies(policy)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """Refusals of one code since the last event: how many, from when to when (Unix milliseconds), one sample."""

    code: str
    count: int
    first_ms: int
    last_ms: int
    seen: str
    wanted: str


class RefusalCounter:
    """Turns any number of refusals into at most one event per code in ten minutes: no attacker grows the ledger.

    The first refusal of a code is due at once; those that follow wait for the end of its window.
    """

    def __init__(self) -> None:
        self._pending: dict[str, Refusals] = {}
        self._told_ms: dict[str, int] = {}

    def count(self, code: str, *, now_ms: int, seen: str = "", wanted: str = "") -> None:
        """Count one refusal; *seen* and *wanted* are cut to 512 bytes together."""
        code = code if code in REFUSAL_CODES else "other"
        before = self._pending.get(code)
        if before is None:
            seen = _cut(seen, _SAMPLE_BYTES // 2)
            wanted = _cut(wanted, _SAMPLE_BYTES // 2)
            self._pending[code] = Refusals(
                code=code, count=1, first_ms=now_ms, last_ms=now_ms, seen=seen, wanted=wanted
            )
        else:
            self._pending[code] = replace(before, count=before.count + 1, last_ms=max(before.last_ms, now_ms))

    def due(self, *, now_ms: int) -> tuple[Refusals, ...]:
        """Take what may be recorded at *now_ms*; it counts as told from then on."""
        codes = [
            code for code in self._pending if now_ms - self._told_ms.get(code, -REFUSAL_WINDOW_MS) >= REFUSAL_WINDOW_MS
        ]
        for code in codes:
            self._told_ms[code] = now_ms
        return tuple(self._pending.pop(code) for code in sorted(codes))

    def put_back(self, refusals: Refusals) -> None:
        """Count *refusals* on: they could not be recorded. They are due again when their window has passed."""
        later = self._pending.get(refusals.code)
        self._pending[refusals.code] = (
            refusals
            if later is None
            else replace(refusals, count=refusals.count + later.count, last_ms=max(refusals.last_ms, later.last_ms))
        )

    @property
    def waiting(self) -> bool:
        """Whether anything is counted that no event has told yet."""
        return bool(self._pending)


def _release(counts: dict[str, int], key: str) -> None:
    left = counts[key] - 1
    if left:
        counts[key] = left
    else:
        del counts[key]  # Only what is in work is remembered, so strangers cannot fill the table.


def _cut(text: str, size: int) -> str:
    raw = text.encode("utf-8", "replace")
    return raw.decode() if len(raw) <= size else raw[: size - 3].decode("utf-8", "ignore") + "…"
