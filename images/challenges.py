"""What a registry's ``WWW-Authenticate`` header asks for (RFC 9110, section 11.6.1); nothing is sent here."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_MAX: Final = 8192
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 a grammar's name
_PARAMETER: Final = re.compile(rf'\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))\s*')
_SCHEME: Final = re.compile(rf"\s*({_TOKEN})(?=\s|,|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One way to authenticate: ``basic``, ``bearer`` or another scheme, and its parameters."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(headers: Sequence[str]) -> tuple[Challenge, ...]:
    """All challenges of the headers; what does not follow the grammar ends the list."""
    found: list[Challenge] = []
    for header in headers:
        text, here = header[:_MAX], 0
        while scheme := _SCHEME.match(text, here):
            here = scheme.end()
            parameters: dict[str, str] = {}
            while match := _PARAMETER.match(text, here):
                name, quoted, plain = match.groups()
                value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                parameters.setdefault(name.lower(), value)
                here = match.end()
                if here >= len(text) or text[here] != ",":
                    break
                here += 1
            found.append(Challenge(scheme=scheme[1].lower(), parameters=parameters))
            while here < len(text) and text[here] in ", \t":
                here += 1
    return tuple(found)
