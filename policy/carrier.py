"""How a policy comes to its guest: as an annotation of its own, or inside initdata; and which bytes HOSTDATA measures.

Initdata is a TOML document that the runtime hands to the guest compressed; what is measured is the document as it is,
so nothing here reads a document and writes it again.
"""

import base64
import binascii
import gzip
import io
import json
import re
import tomllib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from k8s.resources import INITDATA, POLICY
from policy.errors import PolicyTextError

MAX_ANNOTATION: Final = 256 * 1024 - 4096  # All annotations of a pod together have 256 KiB; some are others'.
MAX_BYTES: Final = 16 << 20  # What the agent reads at most.
_VERSION: Final = "0.1.0"
_NAME: Final = "policy.rego"
_START: Final = f'version = "{_VERSION}"\n'
_DELETE: Final = "\x7f"  # The one control character that JSON leaves as it is and TOML forbids.
_NOT_LITERAL: Final = re.compile(r"'''|'\Z|[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """A policy on its way: the annotation, its value, and the bytes whose SHA-256 is HOSTDATA."""

    annotation: str
    value: str
    measured: bytes


def carry(text: str, *, initdata: bool) -> Carried:
    """Pack the policy *text*; the same text gives the same bytes."""
    if initdata:
        return carried(initdata_document(text))
    return carried(text.encode())


def carried(measured: bytes) -> Carried:
    """Pack what is measured: a policy, or an initdata document.

    Raises:
        PolicyTextError: it would be larger than Kubernetes lets annotations be.
    """
    initdata = is_initdata(measured)
    packed = gzip.compress(measured, compresslevel=9, mtime=0) if initdata else measured
    value = base64.b64encode(packed).decode()
    if len(value) > MAX_ANNOTATION:
        raise PolicyTextError(
            f"the policy would be an annotation of {len(value)} bytes, and Kubernetes takes {MAX_ANNOTATION}: "
            + (
                "make the pod smaller"
                if initdata
                else "use initdata, which is compressed (--initdata), or a smaller pod"
            )
        )
    return Carried(annotation=INITDATA if initdata else POLICY, value=value, measured=measured)


def initdata_document(text: str) -> bytes:
    """The initdata document with the policy *text*, readable where TOML can hold it literally."""
    literal = _NOT_LITERAL.search(text) is None
    # In the other form JSON's escapes are TOML's too.
    quoted = f"'''\n{text}'''" if literal else json.dumps(text, ensure_ascii=False).replace(_DELETE, "\\u007f")
    return f'{_START}algorithm = "sha256"\n\n[data]\n"{_NAME}" = {quoted}\n'.encode()


def is_initdata(measured: bytes) -> bool:
    """Whether these bytes are an initdata document (and no policy, which begins otherwise)."""
    return measured.startswith(b"version")


def measured_bytes(annotations: Mapping[str, str]) -> bytes | None:
    """What HOSTDATA measures of a pod with *annotations*; None where they carry no policy.

    Raises:
        PolicyTextError: the annotation cannot be unpacked, or there are two.
    """
    policy, initdata = annotations.get(POLICY), annotations.get(INITDATA)
    if policy is not None and initdata is not None:
        raise PolicyTextError(
            f"a policy stands in both {POLICY} and {INITDATA}, and the guest takes one: remove one of the annotations"
        )
    if initdata is not None:
        return _opened(initdata)
    if policy is None:
        return None
    return _base64(policy, POLICY)


def policy_in(measured: bytes) -> str:
    """The text of the policy in *measured*.

    Raises:
        PolicyTextError: neither a text nor an initdata document of the kind that guests read.
    """
    try:
        text = measured.decode()
    except UnicodeDecodeError as error:
        raise PolicyTextError(f"byte {error.start} of the policy is not UTF-8") from None
    if not is_initdata(measured):
        return text
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyTextError(f"the initdata is no TOML: {error}") from None
    data = document.get("data")
    policy = data.get(_NAME) if isinstance(data, dict) else None
    if document.get("version") != _VERSION or document.get("algorithm") != "sha256" or not isinstance(policy, str):
        raise PolicyTextError(
            f"the initdata has version {document.get('version')!r}, algorithm {document.get('algorithm')!r} and "
            f"{'a' if isinstance(policy, str) else 'no'} {_NAME}; wanted {_VERSION!r}, 'sha256' and a policy"
        )
    return policy


def _opened(value: str) -> bytes:
    packed = _base64(value, INITDATA)
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as stream:
            document = stream.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise PolicyTextError(f"{INITDATA} is no gzip: {error}: remove it and run `contrast generate`") from None
    if len(document) > MAX_BYTES:
        raise PolicyTextError(f"{INITDATA} unpacks to more than {MAX_BYTES} bytes, which is the most that is read")
    if not is_initdata(document):
        raise PolicyTextError(f"{INITDATA} does not begin with a version: remove it and run `contrast generate`")
    return document


def _base64(value: str, name: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise PolicyTextError(f"{name} is no base64: remove it and run `contrast generate`") from None
