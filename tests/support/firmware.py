"""The smallest firmware image that SEV-SNP tools take: a footer table with a reset address, metadata, and zeros."""

import uuid

RESET_EIP = 0x80B004
_FOOTER = "96b582de-1fb2-45f7-baea-a366c55a082d"
_RESET = "00f771de-1a7e-4fcb-890e-68c77e2fb44e"
_METADATA = "dc886566-984a-4798-a75e-5585a7bf67cc"
_HASHES = "7255371f-3a3b-4b04-927b-1da6efa8d454"


def firmware(*, size: int = 8192, kernel_hashes: bool = False) -> bytes:
    """An image of *size* bytes; with *kernel_hashes* it has a place for them."""
    sections = [(0x800000, 0x1000, 1), (0x801000, 0x1000, 2), (0x802000, 0x1000, 3)]
    if kernel_hashes:
        sections.append((0x803000, 0x1000, 0x10))
    items = b"".join(value.to_bytes(4, "little") for section in sections for value in section)
    metadata = b"ASEV" + (16 + len(items)).to_bytes(4, "little") + (1).to_bytes(4, "little")
    metadata += len(sections).to_bytes(4, "little") + items
    start = 1024
    table = _entry(_RESET, RESET_EIP.to_bytes(4, "little"))
    table += _entry(_METADATA, (size - start).to_bytes(4, "little"))
    table += _entry(_HASHES, (0x803C00).to_bytes(4, "little") + (0x400).to_bytes(4, "little"))
    footer = (len(table) + 18).to_bytes(2, "little") + uuid.UUID(_FOOTER).bytes_le
    image = bytearray(size)
    image[start : start + len(metadata)] = metadata
    end = size - 32
    image[end - len(table) - len(footer) : end] = table + footer
    return bytes(image)


def _entry(guid: str, data: bytes) -> bytes:
    return data + (len(data) + 18).to_bytes(2, "little") + uuid.UUID(guid).bytes_le
