"""JSON lines on standard output, one event each. It lets no bytes through: no secret, no evidence is logged."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

_FORBIDDEN = ("secret", "seed", "private", "password", "salt", "evidence")
_LONGEST = 2048


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Send structlog, and what libraries log, to *stream* (standard output) as JSON lines.

    Args:
        level: debug, info, warning or error.
        stream: Where to; a test gives a StringIO.
    """
    out = stream or sys.stdout
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(),
        redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))  # Libraries are heard when something is wrong.


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: bytes become their length, fields with a telling name go, long texts are cut."""
    for key, value in event.items():
        if any(word in key.lower() for word in _FORBIDDEN):
            event[key] = "[left out]"
        else:
            event[key] = _harmless(value)
    return event


def _harmless(value: Any) -> Any:
    match value:
        case bytes() | bytearray() | memoryview():
            return f"[{len(value)} bytes]"
        case str() if len(value) > _LONGEST:
            return value[:_LONGEST] + "…"
        case dict():
            return {str(key): _harmless(inner) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_harmless(inner) for inner in value]
        case _:
            return value
