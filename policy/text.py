"""Texts with holes that only the running pod fills (its name, its address): as patterns, or filled in."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

# Only what RE2, Rust's regex and Python's re read alike; no dot, which is a byte in one, a character in another.
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")
_QUOTED = re.compile(r"\\([\\.+*?()|\[\]{}^$])")
_IP = r"([0-9]{1,3}([.][0-9]{1,3}){3}|[0-9a-f:]{2,39})"
_HOST = r"([0-9]{1,3}([.][0-9]{1,3}){3}|\[[0-9a-f:]{2,39}\])"  # As in a URL.
_PCI = "[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}[.][0-7]"
SUFFIX = "[bcdfghjklmnpqrstvwxz2456789]{1,10}"  # Kubernetes' alphabet for generated names.


class Hole(Enum):
    """What only the running pod knows."""

    POD_NAME = "pod name"
    NAMESPACE = "namespace"
    POD_STEM = "host name"
    POD_NUMBER = "pod number"
    POD_UID = "pod uid"
    SANDBOX_ID = "sandbox id"
    CONTAINER_ID = "container id"
    POD_IP = "pod address"
    POD_IPS = "pod addresses"
    HOST_IP = "node address"
    HOST_IPS = "node addresses"
    NODE_NAME = "node name"
    RESOURCE = "resource"
    API_HOST = "API server's address"
    API_PORT = "API server's port"
    API_URL_HOST = "API server's address in a URL"
    SERVICE_IP = "Service's address"
    SERVICE_HOST = "Service's address in a URL"
    PCI_ADDRESSES = "addresses of devices"
    RANDOM = "random"


# The policy itself fills in what it pinned the pod to: names in $(…). No text holds them, since `$` is escaped there.
_PATTERNS: Mapping[Hole, str] = {
    Hole.POD_NAME: "$(pod-name)",
    Hole.NAMESPACE: "$(namespace)",
    Hole.POD_STEM: "$(pod-stem)",
    Hole.POD_NUMBER: "$(pod-number)",
    Hole.POD_UID: "$(pod-uid)",
    Hole.SANDBOX_ID: "$(sandbox-id)",
    Hole.CONTAINER_ID: "$(container-id)",
    Hole.POD_IP: _IP,
    Hole.POD_IPS: f"{_IP}(,{_IP})*",
    Hole.HOST_IP: _IP,
    Hole.HOST_IPS: f"{_IP}(,{_IP})*",
    Hole.NODE_NAME: "[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?",
    Hole.RESOURCE: "[0-9]{1,20}",
    Hole.API_HOST: _IP,
    Hole.API_PORT: "[0-9]{1,5}",
    Hole.API_URL_HOST: _HOST,
    Hole.SERVICE_IP: _IP,
    Hole.SERVICE_HOST: _HOST,
    Hole.PCI_ADDRESSES: f"{_PCI}(,{_PCI})*",
    Hole.RANDOM: "[0-9a-f]{16}",
}


@dataclass(frozen=True, slots=True)
class Text:
    """Fixed pieces and holes, in order."""

    parts: tuple[str | Hole, ...]

    @classmethod
    def of(cls, *parts: "str | Hole | Text") -> "Text":
        """Join *parts*; neighbouring fixed pieces become one."""
        joined: list[str | Hole] = []
        for part in parts:
            for piece in part.parts if isinstance(part, Text) else (part,):
                if joined and not isinstance(piece, Hole) and not isinstance(joined[-1], Hole):
                    joined[-1] += piece
                elif piece:
                    joined.append(piece)
        return cls(tuple(joined))

    @property
    def literal(self) -> str | None:
        """The whole text where it has no hole."""
        fixed = [part for part in self.parts if isinstance(part, str)]
        return "".join(fixed) if len(fixed) == len(self.parts) else None

    @property
    def pattern(self) -> str:
        """A regular expression for the whole text, with the names of what the policy fills in."""
        return "^" + "".join(_PATTERNS[part] if isinstance(part, Hole) else escape(part) for part in self.parts) + "$"

    def data(self) -> "str | dict[str, str]":
        """How it stands in a policy: itself, or its pattern."""
        return {"pattern": self.pattern} if (literal := self.literal) is None else literal

    def filled(self, facts: Mapping[Hole, str]) -> str:
        """The text of one pod."""
        return "".join(facts[part] if isinstance(part, Hole) else part for part in self.parts)


def escape(text: str) -> str:
    """Quote *text* for a regular expression, the same for RE2, Rust and Python."""
    return _SPECIAL.sub(lambda match: "\\" + match.group(), text)


def readable(pattern: str) -> str:
    """A pattern of ours for people: each hole by its name in angle brackets, the rest as it was written."""
    found = pattern.removeprefix("^").removesuffix("$")
    # Longer patterns first: some hold others.
    for hole, written in sorted(_PATTERNS.items(), key=lambda pair: -len(pair[1])):
        found = found.replace(written, "<address>" if written in {_IP, _HOST} else f"<{hole.value}>")
    return _QUOTED.sub(r"\1", found)


def expand(text: str, lookup: Callable[[str], Text | None]) -> Text:
    """Replace ``$(NAME)`` as the kubelet does: unknown names stay as written, ``$$`` is one ``$``."""
    parts: list[str | Text] = []
    position = 0
    while (found := text.find("$", position)) >= 0:
        parts.append(text[position:found])
        following = text[found + 1 : found + 2]
        if following == "$":
            parts.append("$")
            position = found + 2
        elif following == "(" and (end := text.find(")", found)) > 0:
            parts.append(lookup(text[found + 2 : end]) or text[found : end + 1])
            position = end + 1
        else:
            parts.append("$" + following)
            position = found + 2
    parts.append(text[position:])
    return Text.of(*parts)
