"""`contrast measure`: what a guest image's launch measurement will be, and reference values that name it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
from sevsnpmeasure.guest import calc_launch_digest
from sevsnpmeasure.ovmf import OVMF
from sevsnpmeasure.sev_mode import SevMode
from sevsnpmeasure.vcpu_types import CPU_SIGS
from sevsnpmeasure.vmm_types import VMMType

from attestation.reference import SnpReferenceValues
from attestation.snp.launch import EPYC_V4, MAX_VCPUS, measurements_of_seed
from attestation.snp.products import PRODUCTS, Tcb
from cli.errors import RefusedError, UsageFaultError
from cli.options import PATHS
from cli.session import Session, example, json_option
from cli.workspace import read_file, write_atomic
from manifest.reference_file import render_reference_values

MAX_IMAGE: Final = 1 << 30
_VMMS: Final = {"qemu": VMMType.QEMU, "ec2": VMMType.ec2, "gce": VMMType.gce}


class TcbType(click.ParamType[Tcb]):
    """`BOOTLOADER,TEE,SNP,MICROCODE`, on Turin with `,FMC` behind."""

    name = "bootloader,tee,snp,microcode[,fmc]"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Tcb:
        """Return the versions in *value*."""
        if isinstance(value, Tcb):
            return value
        parts = str(value).split(",")
        if len(parts) not in (4, 5) or not all(part.isascii() and part.isdigit() and int(part) < 256 for part in parts):
            self.fail(f"{value!r}: wanted four versions from 0 to 255 (five on Turin) with commas between", param, ctx)
        numbers = [int(part) for part in parts]
        return Tcb(
            bootloader=numbers[0],
            tee=numbers[1],
            snp=numbers[2],
            microcode=numbers[3],
            fmc=numbers[4] if len(numbers) == 5 else None,
        )


@dataclass(frozen=True, slots=True)
class _Image:
    """What the firmware measures, apart from the number of processors."""

    ovmf: Path
    kernel: Path | None
    initrd: Path | None
    append: str
    guest_features: int
    vmm: VMMType
    cpu_signature: int

    def measurement(self, processors: int) -> bytes:
        """Return the launch digest; the library raises errors of many kinds for files that are no images."""
        digest: bytes = calc_launch_digest(
            SevMode.SEV_SNP,
            processors,
            self.cpu_signature,
            str(self.ovmf),
            "" if self.kernel is None else str(self.kernel),
            "" if self.initrd is None else str(self.initrd),
            self.append,
            self.guest_features,
            vmm_type=self.vmm,
        )
        return digest

    def start_of_others(self) -> int:
        """Return where all processors but the first start."""
        eip: int = OVMF(str(self.ovmf)).sev_es_reset_eip()
        return eip


@click.command(
    short_help="Compute an SEV-SNP launch measurement.",
    epilog=example(
        "contrast measure --ovmf OVMF.fd --kernel vmlinuz --initrd initrd.img --append 'console=ttyS0' \\\n"
        "    --any-vcpus --product Genoa --minimum-tcb 10,0,24,84 --output reference-values.json"
    ),
)
@click.option("--ovmf", required=True, type=PATHS, help="Firmware image.")
@click.option("--kernel", type=PATHS, default=None, help="Kernel that the firmware checks by its hash.")
@click.option("--initrd", type=PATHS, default=None, help="Initial RAM disk, likewise.")
@click.option("--append", default="", metavar="TEXT", help="Kernel command line, likewise.")
@click.option(
    "--vcpus", type=click.IntRange(1, MAX_VCPUS), default=1, show_default=True, help="Processors of the guest."
)
@click.option(
    "--any-vcpus", is_flag=True, help=f"Write a seed that stands for guests with 1 to {MAX_VCPUS} processors."
)
@click.option(
    "--vcpu-type", type=click.Choice(sorted(CPU_SIGS)), default="EPYC-v4", show_default=True, help="As given to QEMU."
)
@click.option("--vmm", type=click.Choice(sorted(_VMMS)), default="qemu", show_default=True, help="Hypervisor.")
@click.option(
    "--guest-features", type=click.IntRange(0), default=1, show_default=True, help="SEV_FEATURES of the VMSA."
)
@click.option(
    "--product", type=click.Choice(list(PRODUCTS)), default="Milan", show_default=True, help="Processor line."
)
@click.option("--platform", default="Metal-QEMU-SNP", show_default=True, help="Name of the entry, for people.")
@click.option("--minimum-tcb", type=TcbType(), default=None, help="Oldest firmware that is acceptable.")
@click.option("--output", type=PATHS, default=None, help="Write reference values there.")
@json_option
@click.pass_obj
def measure(
    session: Session,
    *,
    ovmf: Path,
    kernel: Path | None,
    initrd: Path | None,
    append: str,
    vcpus: int,
    any_vcpus: bool,
    vcpu_type: str,
    vmm: str,
    guest_features: int,
    product: str,
    platform: str,
    minimum_tcb: Tcb | None,
    output: Path | None,
) -> None:
    """Compute the launch measurement of an SEV-SNP guest, and write reference values for it.

    The measurement covers firmware, kernel, initrd, command line and the processors' first state. It does not cover the
    launch policy: that one is checked apart.
    """
    for path, what in ((ovmf, "firmware"), (kernel, "kernel"), (initrd, "initrd")):
        if path is not None:
            read_file(path, what=what, limit=MAX_IMAGE)  # Readable, and of a size that makes sense.
    if any_vcpus and (vcpus != 1 or vmm != "qemu" or guest_features != 1):
        raise UsageFaultError("--any-vcpus is for QEMU with default features, and goes without --vcpus")
    if output is not None and minimum_tcb is None:
        raise UsageFaultError("reference values need --minimum-tcb: without it any old firmware would be acceptable")
    signature = CPU_SIGS[vcpu_type]
    image = _Image(ovmf, kernel, initrd, append, guest_features, _VMMS[vmm], signature)
    try:
        measurement = image.measurement(vcpus)
        ap_eip = image.start_of_others() if any_vcpus else None
        with_two = image.measurement(2) if any_vcpus else b""
    except (RuntimeError, ValueError, AssertionError, KeyError) as error:
        raise RefusedError(f"{ovmf} is no firmware image that SEV-SNP launches: {error}") from None
    if ap_eip is not None and measurements_of_seed(measurement, ap_eip, signature).get(with_two) != 2:
        raise RuntimeError("the library and we continue a seed differently")
    out = session.output
    out.document(
        {
            "measurement": measurement.hex(),
            "vcpus": None if any_vcpus else vcpus,
            "ap_eip": None if ap_eip is None else f"{ap_eip:08x}",
            "cpu_signature": f"{signature:08x}",
            "reference_values": None if output is None else str(output),
        }
    )
    out.say(measurement.hex())
    if output is not None and minimum_tcb is not None:
        entry = SnpReferenceValues(
            platform=platform,
            product_name=product,
            trusted_measurement=measurement,
            minimum_tcb=minimum_tcb,
            ap_eip=ap_eip,
            cpu_signature=signature if ap_eip is not None else EPYC_V4,
        )
        _write(output, entry)
        out.note(f"reference values for {platform} on {product}: {output}")


def _write(path: Path, entry: SnpReferenceValues) -> None:
    text = json.dumps(render_reference_values((entry,)), indent=2, ensure_ascii=False)
    write_atomic(path, text.encode() + b"\n")
