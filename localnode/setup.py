"""Makes what a workspace needs to try everything on one machine: a vendor, reference values, development images.

A vendor that is there already stays: every manifest of the workspace names it. Nothing here starts a process.
"""

import hashlib
import importlib.util
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, get_args

from attestation.errors import AttestationError
from attestation.simulated.vendor import DEFAULT_TCB, PROVIDER, ProductName, VendorChain
from attestation.snp.endorsement import EndorsementKind
from attestation.snp.products import Tcb
from images.build import DEFAULT_PATH, File, ImageSpec, write_layout
from localnode.errors import DevWorkspaceError, UnwritableError
from localnode.rundir import DevFolder, private_folder, write_private

VERSION: Final = "v0.1.0"
REPOSITORY: Final = "contrast.invalid/contrast"
PACKAGES: Final[Mapping[str, tuple[str, ...]]] = {
    "initializer": ("initializer", "wire", "attestation", "ledger"),
    "coordinator": ("coordinator", "ledger", "attestation", "manifest", "wire"),
}
_MEASUREMENT_LABEL = b"contrast/simulated-guest/v1\0"
_HOME = "opt/contrast"
_MAX_REFERENCE_VALUES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What `dev_init` made or found.

    Attributes:
        fingerprint: SHA-256 of the simulated root certificate, hex.
        measurement: what the simulated guest image measures, hex.
        reference_values: the file that names both.
        images: pinned reference by program.
        created: False when the vendor was there already.
        product: the processor that is imitated.
        provider: whose VLEK its chip signs with; None for a VCEK.
    """

    fingerprint: str
    measurement: str
    reference_values: Path
    images: Mapping[str, str]
    created: bool
    product: str
    provider: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DevPlatform:
    """The simulated platform of a workspace, ready to launch guests."""

    vendor: VendorChain
    measurement: bytes


def dev_init(root: Path, *, now: datetime, product: str | None = None, vlek: bool = False) -> Prepared:
    """Make `.contrast-dev/` in *root*, or complete it.

    Args:
        root: the workspace.
        now: start of the vendor's validities.
        product: Milan (also where none is named), Genoa or Turin.
        vlek: whether its chip signs as a cloud provider's do, with a VLEK, and not with a key of its own.

    Raises:
        DevWorkspaceError: the product is unknown, what is there is unusable or of another product, or it cannot be
            written.
    """
    folder = DevFolder(root)
    names: tuple[ProductName, ...] = get_args(ProductName)
    kind = EndorsementKind.VLEK if vlek else EndorsementKind.VCEK
    chosen = next((name for name in names if name == (product or names[0])), None)
    if chosen is None:
        raise DevWorkspaceError(f"product {product!r} is unknown; wanted one of {', '.join(names)}")
    try:
        private_folder(folder.dev)
        created = not folder.vendor.exists()
        vendor = _make_vendor(folder, now, chosen, kind) if created else VendorChain.load(folder.vendor)
        if product not in (None, vendor.product.name) or (vlek and vendor.endorsement is not kind):
            raise DevWorkspaceError(
                f"{folder.vendor} holds a simulated vendor of {vendor.product.name} whose chip signs with a "
                f"{vendor.endorsement}, and manifests may name it: use an empty workspace for {chosen} with a {kind}"
            )
        measurement = simulated_measurement(vendor)
        if not folder.reference_values.exists():
            write_private(folder.reference_values, _reference_values(vendor, measurement))
        pinned = write_layout(folder.images, {reference(program): _program_image(program) for program in PACKAGES})
    except OSError as error:
        raise UnwritableError(f"{error.filename or folder.dev} cannot be written: {error.strerror or error}") from error
    except AttestationError as error:
        raise DevWorkspaceError(str(error)) from error
    load_platform(root)  # What was kept must fit together.
    return Prepared(
        fingerprint=vendor.fingerprint.hex(),
        measurement=measurement.hex(),
        reference_values=folder.reference_values,
        images={program: f"{reference(program)}@{pinned[reference(program)]}" for program in PACKAGES},
        created=created,
        product=vendor.product.name,
        provider=PROVIDER if vendor.endorsement is EndorsementKind.VLEK else None,
    )


def load_platform(root: Path) -> DevPlatform:
    """The simulated platform that `dev_init` made in *root*.

    Raises:
        DevWorkspaceError: there is none, or the reference values name another vendor.
    """
    folder = DevFolder(root)
    if not folder.vendor.is_dir():
        raise DevWorkspaceError(
            f"{folder.dev} holds no simulated vendor: run `contrast dev init` in this workspace first"
        )
    try:
        vendor = VendorChain.load(folder.vendor)
    except AttestationError as error:
        raise DevWorkspaceError(str(error)) from error
    anchors = dict(_entries(folder.reference_values))
    fingerprint = vendor.fingerprint.hex()
    if fingerprint not in anchors:
        raise DevWorkspaceError(
            f"{folder.reference_values} names {', '.join(anchors) or 'no simulated anchor'}, but the vendor here is "
            f"{fingerprint}: remove the file and run `contrast dev init` to have it written anew"
        )
    return DevPlatform(vendor=vendor, measurement=anchors[fingerprint])


def simulated_measurement(vendor: VendorChain) -> bytes:
    """What the guest image of this vendor's workspace measures (48 bytes). No image exists: a label stands for it."""
    return hashlib.sha384(_MEASUREMENT_LABEL + vendor.fingerprint).digest()


def reference(program: str) -> str:
    """The name and tag under which the image of *program* stands in a layout."""
    return f"{REPOSITORY}/{program}:{VERSION}"


def _make_vendor(folder: DevFolder, now: datetime, product: ProductName, kind: EndorsementKind) -> VendorChain:
    # Complete or not there at all: it gets its name when every file is written.
    partial = folder.vendor.with_name(".vendor.partial")
    shutil.rmtree(partial, ignore_errors=True)
    vendor = VendorChain.create(now, product, kind)
    vendor.save(partial)
    partial.rename(folder.vendor)
    return vendor


def _reference_values(vendor: VendorChain, measurement: bytes) -> bytes:
    entry: dict[str, object] = {
        "Platform": "Simulated-SNP",
        "ProductName": vendor.product.name,
        "TrustedMeasurement": measurement.hex(),
        "MinimumTCB": _tcb(DEFAULT_TCB[vendor.product.name]),
        "GuestPolicy": {"SMT": True, "Debug": False},
        "TrustAnchor": vendor.fingerprint.hex(),
        "TrustAnchorSPKI": vendor.spki_fingerprint.hex(),
    }
    if vendor.endorsement is EndorsementKind.VLEK:
        entry["AllowedProviders"] = [PROVIDER]
    return json.dumps({"simulated": [entry]}, indent=2).encode() + b"\n"


def _tcb(tcb: Tcb) -> dict[str, int]:
    parts = {
        "BootloaderVersion": tcb.bootloader,
        "TEEVersion": tcb.tee,
        "SNPVersion": tcb.snp,
        "MicrocodeVersion": tcb.microcode,
    }
    return parts if tcb.fmc is None else {**parts, "FMCVersion": tcb.fmc}


def _entries(path: Path) -> Iterable[tuple[str, bytes]]:
    """Anchor and measurement of each simulated entry; verifiers read this file strictly, here two fields suffice."""
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(_MAX_REFERENCE_VALUES))
        for entry in value["simulated"]:
            yield str(entry["TrustAnchor"]), bytes.fromhex(entry["TrustedMeasurement"])
    except FileNotFoundError:
        raise DevWorkspaceError(f"{path} does not exist: run `contrast dev init`") from None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DevWorkspaceError(
            f"{path} is no file of simulated reference values ({type(error).__name__}: {error}): remove it and run "
            "`contrast dev init`"
        ) from error


def _program_image(program: str) -> ImageSpec:
    """The program as it is installed here: source files of its packages, and a script of its name.

    Third-party packages are not in it: the machine that plays the node has them. A release image is built from the
    Containerfiles in ``k8s/``.
    """
    files: dict[str, File] = {}
    for package in PACKAGES[program]:
        home = _package_folder(package)
        for path in sorted(home.rglob("*.py")):
            files[f"{_HOME}/{package}/{path.relative_to(home).as_posix()}"] = File(data=path.read_bytes())
    script = f"#!/usr/bin/env python3\nimport sys\n\nfrom {program}.__main__ import main\n\nsys.exit(main())\n"
    files[f"usr/local/bin/contrast-{program}"] = File(data=script.encode(), mode=0o755)
    return ImageSpec(
        files={**files},
        entrypoint=(f"contrast-{program}",),
        env=(DEFAULT_PATH, f"PYTHONPATH=/{_HOME}", "PYTHONDONTWRITEBYTECODE=1", "PYTHONSAFEPATH=1"),
        user="65532:65532",
    )


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    locations = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not locations:
        raise DevWorkspaceError(f"package {package} is not installed: install the whole project, see the README")
    return Path(locations[0])
