"""Measuring an image: the number, and reference values that a manifest takes."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sevsnpmeasure.guest import calc_launch_digest
from sevsnpmeasure.sev_mode import SevMode
from sevsnpmeasure.vcpu_types import CPU_SIGS

from attestation.reference import SnpReferenceValues
from cli.program import cli
from manifest.reference_file import parse_reference_values
from tests.support.firmware import RESET_EIP, firmware


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "ovmf.fd"
    path.write_bytes(firmware(kernel_hashes=True))
    (tmp_path / "kernel").write_bytes(b"kernel")
    (tmp_path / "initrd").write_bytes(b"initrd")
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["measure", *arguments])


def test_the_measurement_is_the_tools_with_kernel_and_all(image: Path) -> None:
    kernel, initrd = str(image.with_name("kernel")), str(image.with_name("initrd"))
    result = run("--ovmf", str(image), "--kernel", kernel, "--initrd", initrd, "--append", "a=b", "--vcpus", "4")
    assert result.exit_code == 0, result.output
    wanted = calc_launch_digest(SevMode.SEV_SNP, 4, CPU_SIGS["EPYC-v4"], str(image), kernel, initrd, "a=b", 1)
    assert result.stdout.strip() == wanted.hex()


def test_reference_values_are_ones_that_a_manifest_takes(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "values.json"
    options = ["--any-vcpus", "--product", "Turin", "--minimum-tcb", "1,1,4,71,1", "--output", str(target), "--json"]
    result = run("--ovmf", str(image), *options)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    (entry,) = parse_reference_values(target.read_bytes())
    assert isinstance(entry, SnpReferenceValues)
    assert entry.trusted_measurement.hex() == said["measurement"]
    assert entry.ap_eip == RESET_EIP
    assert said["ap_eip"] == f"{RESET_EIP:08x}"
    assert entry.product_name == "Turin"
    assert entry.minimum_tcb.fmc == 1


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--output", "x.json"], 2, "--minimum-tcb"),
        (["--any-vcpus", "--vcpus", "2"], 2, "--any-vcpus"),
        (["--any-vcpus", "--vmm", "ec2"], 2, "--any-vcpus"),
        (["--minimum-tcb", "1,2,3"], 2, "four versions"),
        (["--minimum-tcb", "1,2,3,256"], 2, "four versions"),
        (["--kernel", "missing"], 4, "no such file"),
    ],
)
def test_what_cannot_be_is_told(image: Path, options: list[str], code: int, message: str) -> None:
    result = run("--ovmf", str(image), *options)
    assert result.exit_code == code
    assert message in result.stderr


def test_an_image_that_is_none_is_told(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(4096))
    result = run("--ovmf", str(path))
    assert result.exit_code == 1
    assert "no firmware image" in result.stderr
    assert run("--ovmf", str(tmp_path / "none")).exit_code == 4
