"""Image references as people write them, in one normal form; nothing is fetched here."""

import re
from dataclasses import dataclass

from images.errors import ReferenceInvalidError

_MAX_REFERENCE = 1024
_MAX_HOST = 261
# The grammar of the distribution project: host[:port], path components, tag, digest.
_HOST = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
)
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DOCKER_HUB = "docker.io"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReference:
    """``registry/repository[:tag][@sha256:…]``, with the registry always spelled out."""

    registry: str
    repository: str
    tag: str | None
    digest: str | None

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def pinned(self) -> str:
        """The form that a runtime uses when a digest is present: the tag says nothing any more.

        Raises:
            ReferenceInvalidError: there is no digest.
        """
        return f"{self.name}@{self.required_digest}"

    @property
    def required_digest(self) -> str:
        """The digest, ``sha256:<64 hex>``.

        Raises:
            ReferenceInvalidError: there is none.
        """
        if self.digest is None:
            raise ReferenceInvalidError(
                f"image {self} names no digest, so the registry could serve anything under it: "
                f"write {self.name}{':' + self.tag if self.tag else ''}@sha256:<digest of the image>"
            )
        return self.digest

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"


def parse_reference(text: str) -> ImageReference:
    """Read *text* as Kubernetes and containerd read it.

    Raises:
        ReferenceInvalidError: it does not follow the grammar; the message names the part.
    """
    if not text or len(text) > _MAX_REFERENCE:
        raise ReferenceInvalidError(
            f"an image reference has 1 to {_MAX_REFERENCE} characters, this one has {len(text)}"
        )
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise ReferenceInvalidError(
            f"image {text!r}: after @ stands {digest!r}, wanted sha256: and 64 hexadecimal digits"
        )
    registry, repository = _split_registry(rest)
    repository, colon, tag = repository.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise ReferenceInvalidError(f"image {text!r}: {tag!r} is no tag (letters, digits, '_', '.', '-', at most 128)")
    for component in repository.split("/"):
        if not _COMPONENT.fullmatch(component):
            raise ReferenceInvalidError(f"image {text!r}: {component!r} is no part of a repository's name (lower case)")
    if registry == _DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    return ImageReference(registry=registry, repository=repository, tag=tag or None, digest=digest or None)


def is_host(text: str) -> bool:
    """Whether *text* names a registry: ``host`` or ``host:port``."""
    return len(text) <= _MAX_HOST and _HOST.fullmatch(text) is not None


def _split_registry(rest: str) -> tuple[str, str]:
    """Docker's rule: the first component is a host if it has a dot, a port, or is ``localhost``."""
    first, slash, remainder = rest.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        return _DOCKER_HUB, rest
    if not _HOST.fullmatch(first):
        raise ReferenceInvalidError(f"image {rest!r}: {first!r} is no registry host")
    return (_DOCKER_HUB if first == "index.docker.io" else first), remainder
