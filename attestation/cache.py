"""Chains whose every signature has been verified, by the hash of their bytes. No verdict is ever remembered."""

from collections import OrderedDict
from threading import Lock

from attestation.snp.chain import Chain

_CAPACITY = 512


class ChainCache:
    """A bounded memory of verified chains, least recently used first out; safe to share between threads.

    Only the arithmetic is remembered, which no clock and no reference value can change: the anchor, validity times and
    revocation are asked again for every report. A chain whose root no reference value trusts is never put in, so
    strangers cannot fill it with chains of their own.
    """

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = capacity
        self._chains: OrderedDict[bytes, Chain] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._chains)

    def get(self, key: bytes) -> Chain | None:
        """The verified chain under *key*, if it is remembered."""
        with self._lock:
            chain = self._chains.get(key)
            if chain is not None:
                self._chains.move_to_end(key)
            return chain

    def put(self, key: bytes, chain: Chain) -> None:
        """Remember *chain*, all of whose signatures hold."""
        with self._lock:
            self._chains[key] = chain
            self._chains.move_to_end(key)
            if len(self._chains) > self._capacity:
                self._chains.popitem(last=False)
