"""Writes the certificate tables that hosts hand to guests."""

GUID_VCEK = bytes.fromhex("63da758de6644564adc5f4b93be8accd")
GUID_VLEK = bytes.fromhex("a8074bc2a25a483eaae639c045a0b8a1")
GUID_ASK = bytes.fromhex("4ab7b379bbac4fe4a02f05aef327c782")
GUID_ARK = bytes.fromhex("c0b406a4a803495297433fb6014cd0ae")
GUID_CRL = bytes.fromhex("00569ee4e4804fbabbf445b629901180")


def table(*entries: tuple[bytes, bytes], end: bool = True) -> bytes:
    """A table of (GUID, payload), with its zero entry unless *end* is False."""
    offset = 24 * (len(entries) + end)
    head, tail = b"", b""
    for guid, payload in entries:
        head += guid + (offset + len(tail)).to_bytes(4, "little") + len(payload).to_bytes(4, "little")
        tail += payload
    return head + bytes(24 * end) + tail
