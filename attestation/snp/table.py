"""The certificate table that a host hands to a guest (GHCB, configfs auxblob). Untrusted bytes, nothing verified."""

import base64
import binascii
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from attestation.errors import CertificateTableError

# GUID -> role in the evidence. VCEK and VLEK are both the key that signs the report; the certificate says which it is.
_ROLES: Final[Mapping[UUID, str]] = {
    UUID("63da758d-e664-4564-adc5-f4b93be8accd"): "vek",  # VCEK
    UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1"): "vek",  # VLEK
    UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782"): "intermediate",  # ASK or ASVK
    UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae"): "root",  # ARK
    UUID("00569ee4-e480-4fba-bbf4-45b629901180"): "crl",  # No vendor's; used by hosts that pass the list on.
}
_VLEK: Final = UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1")
_ENTRY_SIZE: Final = 24
_MAX_ENTRIES: Final = 256
MAX_TABLE_SIZE: Final = 131_072
_PEM_BEGIN: Final = b"-----BEGIN "
_AROUND_PEM: Final = b" \t\r\n\0"  # A host that copies a C string copies its end.


def parse_certificate_table(table: bytes, *, prefer_vlek: bool = False) -> dict[str, bytes]:
    """Take the certificates out of a table, by their role in the evidence, in DER.

    Args:
        table: entries of GUID, offset and length, ended by a zero entry; then the payloads, in DER or PEM.
        prefer_vlek: which certificate is the leaf where the table has both.

    Returns:
        Role to DER. Entries with other GUIDs are passed over: hosts add their own.

    Raises:
        CertificateTableError: an entry points outside the table, or one of ours stands there twice or holds broken PEM.
    """
    if len(table) > MAX_TABLE_SIZE:
        raise CertificateTableError(f"the table has {len(table)} bytes, wanted at most {MAX_TABLE_SIZE}")
    found: dict[str, bytes] = {}
    seen: set[UUID] = set()
    for start in range(0, _MAX_ENTRIES * _ENTRY_SIZE, _ENTRY_SIZE):
        entry = table[start : start + _ENTRY_SIZE]
        if len(entry) != _ENTRY_SIZE:
            raise CertificateTableError("the table ends before its zero entry")
        guid = UUID(bytes=entry[:16])
        if not guid.int:
            return found
        offset = int.from_bytes(entry[16:20], "little")
        length = int.from_bytes(entry[20:24], "little")
        if offset + length > len(table):
            raise CertificateTableError(f"entry {guid} ends at byte {offset + length} of {len(table)}")
        role = _ROLES.get(guid)
        if role is None or length == 0:
            continue
        if guid in seen:
            raise CertificateTableError(f"entry {guid} stands there twice")
        seen.add(guid)
        if role in found and (guid == _VLEK) != prefer_vlek:
            continue
        found[role] = _der(table[offset : offset + length], role)
    raise CertificateTableError(f"the table has more than {_MAX_ENTRIES} entries")


def _der(payload: bytes, role: str) -> bytes:
    if not payload.lstrip().startswith(_PEM_BEGIN):
        return payload
    lines = payload.strip(_AROUND_PEM).splitlines()
    label = lines[0].removeprefix(_PEM_BEGIN).removesuffix(b"-----")
    ends = [index for index, line in enumerate(lines) if line.strip() == b"-----END " + label + b"-----"]
    if ends != [len(lines) - 1]:
        raise CertificateTableError(f"the {role} is not one PEM block")
    try:
        return base64.b64decode(b"".join(line.strip() for line in lines[1:-1]), validate=True)
    except binascii.Error:
        raise CertificateTableError(f"the {role} is PEM with something else than base64 in it") from None
