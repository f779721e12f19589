"""x."""
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """x."""
    field: str
    seen: str
    wanted: str
def explain(data: Mapping[str, object], state: Mapping[str, object], endpoint: str, request: Mapping[str, object]) -> tuple[Reason, ...]:
    """X."""
    return ()
