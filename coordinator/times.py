"""Unix milliseconds, as the ledger counts, and the calendar's dates, as certificates do. It reads no clock."""

from datetime import UTC, datetime
from typing import Final

MAX_TIME_MS: Final = 253_402_300_799_999  # The end of the year 9999: no calendar and no certificate knows a later one.


def moment(time_ms: int) -> datetime:
    """Unix milliseconds as an aware datetime."""
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def shown(time_ms: int) -> str:
    """Unix milliseconds as a person reads them: ISO 8601 in UTC, to the second."""
    return moment(time_ms).isoformat(timespec="seconds").replace("+00:00", "Z")
