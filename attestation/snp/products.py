"""What differs between AMD's products: TCB layout, chip id, CPU models. Tables only, no judging."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

MILAN: Final = "Milan"
GENOA: Final = "Genoa"
SIENA: Final = "Siena"
TURIN: Final = "Turin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One product line, as reference values name it.

    Attributes:
        name: how reference values name it. Siena stands for Bergamo too: both are 19h/A0-AF, endorsed by SEV-Genoa,
            but count their microcode differently from Genoa, so minimum versions cannot be shared.
        chain: the product whose ARK, ASK and ASVK endorse it.
        family: CPUID family.
        models: CPUID models.
        chip_id_size: how many bytes of CHIP_ID are used; the rest is zero.
        has_fmc: whether TCB versions have an FMC byte, which shifts the others.
    """

    name: str
    chain: str
    family: int
    models: range
    chip_id_size: int = 64
    has_fmc: bool = False


PRODUCTS: Mapping[str, Product] = {
    product.name: product
    for product in (
        Product(name=MILAN, chain=MILAN, family=0x19, models=range(0x10)),
        Product(name=GENOA, chain=GENOA, family=0x19, models=range(0x10, 0x20)),
        Product(name=SIENA, chain=GENOA, family=0x19, models=range(0xA0, 0xB0)),
        Product(name=TURIN, chain=TURIN, family=0x1A, models=range(0x12), chip_id_size=8, has_fmc=True),
    )
}


def product_of(family: int, model: int) -> Product | None:
    """The product of a CPUID family and model, None for one that we do not know."""
    for product in PRODUCTS.values():
        if product.family == family and model in product.models:
            return product
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tcb:
    """Security versions of a platform, 0 to 255 each. Compared part by part, never as one number.

    Attributes:
        fmc: first mutable code, on Turin only, None elsewhere.
    """

    bootloader: int
    tee: int
    snp: int
    microcode: int
    fmc: int | None = None

    def at_least(self, other: "Tcb") -> bool:
        """Whether every part is at least that of *other*; False for the TCB of a product with other parts."""
        return self is other or (  # Mostly they are: one TCB is read once (see `parse_tcb`).
            self.bootloader >= other.bootloader
            and self.tee >= other.tee
            and self.snp >= other.snp
            and self.microcode >= other.microcode
            and (self.fmc is None) == (other.fmc is None)
            and (self.fmc or 0) >= (other.fmc or 0)
        )

    def __str__(self) -> str:
        fmc = "" if self.fmc is None else f"fmc {self.fmc} "
        return f"{fmc}bootloader {self.bootloader} tee {self.tee} snp {self.snp} microcode {self.microcode}"


def parse_tcb(raw: bytes, product: Product) -> Tcb:
    """Read the eight bytes of a TCB version in the layout of *product*; the reserved bytes are check 4's."""
    return _read_tcb(raw, product.has_fmc)


@lru_cache(maxsize=1024)  # A fleet has a handful of them, and each report names four.
def _read_tcb(raw: bytes, has_fmc: bool) -> Tcb:
    if has_fmc:
        return Tcb(fmc=raw[0], bootloader=raw[1], tee=raw[2], snp=raw[3], microcode=raw[7])
    return Tcb(bootloader=raw[0], tee=raw[1], snp=raw[6], microcode=raw[7])


def pack_tcb(tcb: Tcb, product: Product) -> bytes:
    """The eight bytes of *tcb* in the layout of *product*."""
    if product.has_fmc:
        return bytes((tcb.fmc or 0, tcb.bootloader, tcb.tee, tcb.snp, 0, 0, 0, tcb.microcode))
    return bytes((tcb.bootloader, tcb.tee, 0, 0, 0, 0, tcb.snp, tcb.microcode))


def reserved_tcb_bytes(raw: bytes, product: Product) -> bytes:
    """The bytes of a TCB version that *product* leaves zero."""
    return raw[4:7] if product.has_fmc else raw[2:6]
