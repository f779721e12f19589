"""JSON objects of strangers, each key once; what stands in them is for their readers."""

import json
from typing import Any


def load_once(raw: bytes) -> Any:
    """The JSON value in *raw*, which no object with a doubled key is part of.

    Raises:
        ValueError: no JSON, or a doubled key.
        RecursionError: nested too deeply.
    """
    return json.loads(raw, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found
