"""Plain data to the YAML text that is inserted; never applied to what a person wrote."""

import json
import re
from typing import Final

from k8s.nodes import Data
from k8s.scalars import ScalarError, resolve

_PLAIN: Final = re.compile(r"[A-Za-z0-9/_.](?:[A-Za-z0-9/_.@+=-]|:(?=[A-Za-z0-9/_.@+=-]))*")
_FLOW_PLAIN: Final = re.compile(r"[A-Za-z0-9/_.][A-Za-z0-9/_.-]*")
_SINGLE: Final = re.compile(r"[\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd]*")
_NUMBERLIKE: Final = re.compile(r"[-+.]?[0-9][0-9a-fA-F_:.+\-oOxXtTzZ]*")  # 12:30 and dates: not text to every parser
_STEP: Final = 2


def scalar(value: Data, *, style: str = "plain", flow: bool = False) -> str:
    """Write one scalar on one line, in the quotes of *style* where they can hold it.

    Args:
        value: A scalar; empty collections are written ``{}`` and ``[]``.
        style: ``plain``, ``'`` or ``"``: what stood there before.
        flow: True inside brackets and braces, where fewer texts may stand unquoted.
    """
    if not isinstance(value, str):
        return json.dumps(value)
    if style == "'" and _SINGLE.fullmatch(value):
        return "'" + value.replace("'", "''") + "'"
    if style == "plain" and (_FLOW_PLAIN if flow else _PLAIN).fullmatch(value) and _stays_text(value):
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return re.sub("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda odd: f"\\u{ord(odd[0]):04x}", quoted)


def flow(value: Data) -> str:
    """Write *value* on one line in flow style."""
    match value:
        case dict():
            return "{" + ", ".join(f"{scalar(key, flow=True)}: {flow(part)}" for key, part in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(flow, value)) + "]"
        case _:
            return scalar(value, flow=True)


def json_text(value: Data) -> str:
    """Write *value* on one line as JSON."""
    match value:
        case dict():
            return "{" + ", ".join(f"{json_text(key)}: {json_text(part)}" for key, part in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(json_text, value)) + "]"
        case _:
            return scalar(value, style='"')


def block(value: Data, *, indentless: bool) -> list[str]:
    """Write *value* as lines in block style, the first one not indented.

    Args:
        value: What to write; an empty collection is one line of flow style.
        indentless: True where a list's dashes stand in the column of the key above them.
    """
    if isinstance(value, dict) and value:
        return [line for key, part in value.items() for line in entry(key, part, indentless=indentless)]
    if isinstance(value, list) and value:
        lines = []
        for part in value:
            first, *rest = block(part, indentless=indentless)
            lines += ["- " + first, *(" " * _STEP + line for line in rest)]
        return lines
    return [scalar(value)] if not isinstance(value, dict | list) else [flow(value)]


def entry(key: str, value: Data, *, indentless: bool) -> list[str]:
    """Write one key and its value as lines in block style."""
    name = scalar(key)
    lines = block(value, indentless=indentless)
    if not value or not isinstance(value, dict | list):
        return [f"{name}: {lines[0]}"]
    indent = "" if indentless and isinstance(value, list) else " " * _STEP
    return [f"{name}:", *(indent + line for line in lines)]


def _stays_text(value: str) -> bool:
    if _NUMBERLIKE.fullmatch(value):
        return False
    try:
        return resolve(value, tag=None, plain=True) == value
    except ScalarError:
        return False
