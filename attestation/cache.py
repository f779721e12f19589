"""Chains whose every signature has been verified, and collateral that has been read, by the hash of their bytes.

No verdict is ever remembered.
"""

from collections import OrderedDict
from threading import Lock
from typing import Generic, TypeVar

from attestation.snp.chain import Chain
from attestation.tdx.collateral import Collateral
from attestation.tdx.pck import Platform

_CAPACITY = 512
_T = TypeVar("_T")


class Recent(Generic[_T]):
    """A bounded memory by key, least recently used first out; safe to share between threads."""

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        self._values: OrderedDict[bytes, _T] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: bytes) -> _T | None:
        """What is remembered under *key*, if anything is."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: bytes, value: _T) -> None:
        """Remember *value*."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self._capacity:
                self._values.popitem(last=False)


class ChainCache(Recent[Chain]):
    """Verified chains of SEV-SNP reports; and of TDX, collateral and PCK certificates that have been read.

    Only arithmetic and reading are remembered, which no clock and no reference value can change: the anchor, validity
    times and revocation are asked again for every report, and a quote is verified anew each time. A chain whose root no
    reference value trusts is never put in, so strangers cannot fill it with chains of their own.
    """

    def __init__(self, capacity: int = _CAPACITY) -> None:
        super().__init__(capacity)
        self.collaterals: Recent[Collateral] = Recent(64)
        self.platforms: Recent[Platform] = Recent(capacity)
