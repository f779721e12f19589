"""Measurements of guests with more processors, continued from a seed, against the published tool's."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sevsnpmeasure.guest import calc_launch_digest
from sevsnpmeasure.sev_mode import SevMode
from sevsnpmeasure.vcpu_types import CPU_SIGS
from sevsnpmeasure.vmsa import VMSA

from attestation.snp.launch import EPYC_V4, MAX_VCPUS, measurements_of_seed, save_area
from tests.support.firmware import RESET_EIP, firmware
from tests.support.vendor import HOST_DATA, NOW, make_evidence, reference_values, vendor_chain


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_save_area_is_the_one_of_the_published_tool(eip: int, signature: int) -> None:
    theirs = bytes(VMSA.build_save_area(eip, 1, signature))
    assert save_area(eip, signature) == theirs.ljust(4096, b"\0")


@pytest.mark.parametrize("cpu", ["EPYC-v4", "EPYC-Milan", "EPYC-Genoa", "EPYC-Turin"])
def test_a_seed_stands_for_every_number_of_processors(tmp_path: Path, cpu: str) -> None:
    image = tmp_path / "ovmf.fd"
    image.write_bytes(firmware())
    seed = calc_launch_digest(SevMode.SEV_SNP, 1, CPU_SIGS[cpu], str(image), "", "", "", 1)
    found = measurements_of_seed(seed, RESET_EIP, CPU_SIGS[cpu])
    assert len(found) == MAX_VCPUS == 220  # docs/reference-values.md promises it.
    for vcpus in (1, 2, 3, 8, 64, MAX_VCPUS):
        theirs = calc_launch_digest(SevMode.SEV_SNP, vcpus, CPU_SIGS[cpu], str(image), "", "", "", 1)
        assert found[theirs] == vcpus
    one_more = calc_launch_digest(SevMode.SEV_SNP, MAX_VCPUS + 1, CPU_SIGS[cpu], str(image), "", "", "", 1)
    assert one_more not in found
    assert CPU_SIGS["EPYC-v4"] == EPYC_V4


def test_an_entry_with_a_seed_accepts_guests_of_every_size_and_no_other_image() -> None:
    from attestation.judge import judge  # noqa: PLC0415 the rest of this file needs no judge

    vendor, seed = vendor_chain(), b"\x5e" * 48
    values = reference_values(vendor, seed, ap_eip=RESET_EIP)

    def check(measurement: bytes) -> bool:
        evidence = make_evidence(vendor, bytes(64), measurement=measurement)
        return judge(evidence, [values], report_data=bytes(64), host_data={HOST_DATA}, now=NOW).accepted

    measurements = measurements_of_seed(seed, RESET_EIP)
    for measurement, vcpus in measurements.items():
        if vcpus in (1, 2, MAX_VCPUS):
            assert check(measurement)
    assert not check(bytes(48))
    other = measurements_of_seed(seed, RESET_EIP + 16)
    assert not check(next(measurement for measurement, vcpus in other.items() if vcpus == 2))
