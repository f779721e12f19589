"""A simulated vendor for every test: made once per machine, because RSA-4096 keys take seconds."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from attestation.evidence import Evidence
from attestation.reference import SnpReferenceValues
from attestation.simulated.processor import Guest, GuestLaunch, SecureProcessor
from attestation.simulated.vendor import PROVIDER, ProductName, VendorChain
from attestation.snp.endorsement import EndorsementKind

START = datetime(2026, 1, 1, tzinfo=UTC)  # VCEKs and revocation lists last seven years from here, VLEKs one.
NOW = datetime(2026, 6, 1, tzinfo=UTC)  # A moment when all of them are valid.
MEASUREMENT = b"\x4d" * 48
HOST_DATA = b"\x48" * 32
_LAYOUT = 1  # Raise when the vendor's certificates change, so that no old one is found.


@cache
def vendor_chain(
    product: ProductName = "Milan", endorsement: EndorsementKind = EndorsementKind.VCEK, name: str = "main"
) -> VendorChain:
    """The vendor for *product*; another *name* is another vendor, with keys of its own."""
    parent = Path(tempfile.gettempdir()) / f"contrast-test-vendor-{os.getuid()}-v{_LAYOUT}"
    parent.mkdir(mode=0o700, exist_ok=True)
    if parent.stat().st_uid != os.getuid():
        raise PermissionError(f"{parent} belongs to somebody else")
    directory = parent / f"{product}-{endorsement}-{name}"
    if not directory.exists():
        fresh = Path(tempfile.mkdtemp(dir=parent))
        VendorChain.create(START, product, endorsement).save(fresh)
        try:
            fresh.rename(directory)
        except OSError:  # Another test process was faster; its vendor serves as well.
            shutil.rmtree(fresh)
    return VendorChain.load(directory)


def reference_values(vendor: VendorChain, measurement: bytes = MEASUREMENT, **changes: Any) -> SnpReferenceValues:
    """An entry that accepts guests of *vendor* with *measurement*."""
    fields: Mapping[str, Any] = {
        "platform": "simulated",
        "product_name": vendor.product.name,
        "trusted_measurement": measurement,
        "minimum_tcb": vendor.chip.tcb,
        "trust_anchor": vendor.fingerprint,
        "trust_anchor_spki": vendor.spki_fingerprint,
        "allowed_providers": (PROVIDER,) if vendor.endorsement is EndorsementKind.VLEK else (),
    }
    return SnpReferenceValues(**{**fields, **changes})


def launch(
    vendor: VendorChain, host_data: bytes = HOST_DATA, measurement: bytes = MEASUREMENT, **changes: Any
) -> Guest:
    """A guest on *vendor*'s chip."""
    return SecureProcessor(vendor).launch(GuestLaunch(measurement=measurement, host_data=host_data, **changes))


def make_evidence(
    vendor: VendorChain,
    report_data: bytes,
    host_data: bytes = HOST_DATA,
    measurement: bytes = MEASUREMENT,
    **changes: Any,
) -> Evidence:
    """Evidence of a guest on *vendor*'s chip that binds *report_data*."""
    return launch(vendor, host_data, measurement, **changes).evidence(report_data)
