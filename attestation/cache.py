"""Chains whose every signature has been verified, and collateral that has been read, by the hash of their bytes.

No report's signature is ever remembered, and of a verdict only what is one about all reports that are like it.
"""

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

from attestation.snp.chain import Chain
from attestation.snp.standing import Standing
from attestation.tdx.collateral import Collateral
from attestation.tdx.pck import Platform
from attestation.tdx.standing import Standing as QuoteStanding

_CAPACITY = 512
_T = TypeVar("_T")


class Recent(Generic[_T]):
    """A bounded memory by key, least recently used first out; safe to share between threads."""

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        self._values: OrderedDict[Hashable, _T] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> _T | None:
        """What is remembered under *key*, if anything is."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: Hashable, value: _T) -> None:
        """Remember *value*."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self._capacity:
                self._values.popitem(last=False)


class ChainCache(Recent[Chain]):
    """Verified chains of SEV-SNP reports; and of TDX, collateral and PCK certificates that have been read.

    Of chains, only arithmetic and reading are remembered, which no clock and no reference value can change: validity
    times and revocation are asked again for every report, and a quote is verified anew each time. A chain whose root no
    reference value trusts is never put in, so strangers cannot fill it with chains of their own.

    Attributes:
        standings: by kind, chain, entry and likeness, what was found of an accepted report; see ``snp.standing``.
        quotes: the same of quotes, by collateral, entry and likeness.
    """

    def __init__(self, capacity: int = _CAPACITY) -> None:
        super().__init__(capacity)
        self.standings: Recent[Standing] = Recent(capacity)
        self.quotes: Recent[QuoteStanding] = Recent(capacity)
        self.collaterals: Recent[Collateral] = Recent(64)
        self.platforms: Recent[Platform] = Recent(capacity)
        self._older: dict[int, ChainCache] = {}

    def under(self, rules: int) -> "ChainCache":
        """The memory of an older version of the rules: what it found of a report says nothing about another one's."""
        found = self._older.get(rules)
        if found is None:
            found = self._older[rules] = ChainCache(self._capacity)
        return found
