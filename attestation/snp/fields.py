"""Checks 1 to 5 and 14 to 26: what the report itself says, held against one entry. Cheap, and not yet proven."""

from typing import Final

from attestation.errors import ReportError
from attestation.snp import policy
from attestation.snp.case import Case
from attestation.snp.launch import MAX_VCPUS
from attestation.snp.products import SIENA, Tcb, product_of
from attestation.snp.report import (
    ALGORITHM_P384_SHA384,
    REPORT_SIZE,
    SIGNING_KEY_VCEK,
    SIGNING_KEY_VLEK,
    VERSIONS,
    is_in_range,
    reserved_bytes_set,
)
from attestation.verdict import CHECK_NAMES, Check, Outcome

# (16) No product has come near these; the keys of extracted chips usually claim the highest version there is.
_SANE: Final = Tcb(fmc=63, bootloader=63, tee=63, snp=111, microcode=254)
_KEY_NAMES: Final = {SIGNING_KEY_VCEK: "VCEK", SIGNING_KEY_VLEK: "VLEK", 7: "none"}
_ZERO_DIGEST: Final = bytes(48)


def unreadable(error: ReportError) -> list[Check]:
    """(1, 2) What is found in bytes that are no report."""
    wanted = {1: f"{REPORT_SIZE} bytes", 2: f"version {VERSIONS.start} to {VERSIONS.stop - 1}"}
    number = error.check
    found = [Check(1, CHECK_NAMES[0], Outcome.PASSED, wanted[1], wanted[1])] if number == 2 else []
    return [*found, Check(number, CHECK_NAMES[number - 1], Outcome.FAILED, str(error), wanted[number])]


def field_checks(case: Case) -> None:
    """Make every check that needs the report's own bytes and nothing else, all of them: all differences at once."""
    _layout(case)
    _firmware(case)
    _guest(case)
    _identity(case)


def _layout(case: Case) -> None:
    report, product = case.report, case.product
    case.decide(1, True, "1184 bytes", "1184 bytes")  # (1, 2) The parser has made these.
    case.decide(2, True, lambda: f"version {report.version}", "version 2 to 5")
    # (3) Algorithm confusion, unsigned reports. MASK_CHIP_KEY (bit 1) makes the firmware write a zero signature.
    flags, key = report.flags, report.signing_key
    case.decide(
        3,
        report.signature_algorithm == ALGORITHM_P384_SHA384
        and flags < 0x20
        and not flags & 2
        and key in (SIGNING_KEY_VCEK, SIGNING_KEY_VLEK),
        lambda: (
            f"algorithm {report.signature_algorithm}, flags {flags:#x}, signing key {_KEY_NAMES.get(key, 'reserved')}"
        ),
        "algorithm 1 (ECDSA P-384 with SHA-384), no unknown flag, signing key VCEK or VLEK",
    )
    # (4) Zero signatures, second spellings, smuggled bytes. SNP ABI, table 22.
    nonzero = reserved_bytes_set(report, product)
    in_range = is_in_range(report.r, report.s)
    case.decide(
        4,
        not nonzero and in_range,
        lambda: f"not zero: {', '.join(nonzero) or 'nothing'}; r and s {'in' if in_range else 'out of'} range",
        "reserved bytes zero; r and s from 1 to the order of P-384 less 1",
    )
    _product(case)


def _product(case: Case) -> None:
    """(5) Product from the signed family and model; version 2 leaves it to the chain (see ``endorsed``)."""
    report, product = case.report, case.product
    if report.cpuid is not None:
        family, model, _ = report.cpuid
        seen = product_of(family, model)
        case.decide(
            5,
            seen is product,
            lambda: f"{seen.name if seen else 'unknown product'} (family {family:#x}, model {model:#x})",
            product.name,
        )
        return
    is_masked = not any(report.chip_id)
    has_short_id = not any(report.chip_id[8:])
    fits = product.name != SIENA and (is_masked or has_short_id == (product.chip_id_size == 8))
    case.decide(
        5,
        fits,
        lambda: f"no family in a version 2 report, chip id of {8 if has_short_id else 64} bytes",
        lambda: (
            f"{product.name}, by the chain"
            if product.name != SIENA
            else "a version 3 report, which tells Siena from Genoa"
        ),
    )


def _firmware(case: Case) -> None:
    report, values, tcbs = case.report, case.values, case.tcbs
    # (14) Firmware that can be rolled back. COMMITTED below CURRENT means that it still can.
    is_ordered = (
        tcbs.current.at_least(tcbs.reported)
        and tcbs.current.at_least(tcbs.committed)
        and report.current_firmware >= report.committed_firmware
    )
    is_committed = (
        tcbs.current is tcbs.committed or tcbs.current == tcbs.committed
    ) and report.current_firmware == report.committed_firmware
    case.decide(
        14,
        is_ordered and (is_committed or values.allow_provisional_firmware),
        lambda: (
            f"reported {tcbs.reported}; committed {tcbs.committed}, {_firmware_name(report.committed_firmware)}; "
            f"current {tcbs.current}, {_firmware_name(report.current_firmware)}"
        ),
        "reported and committed not above current"
        + ("" if values.allow_provisional_firmware else "; committed equal to current (no provisional firmware)"),
    )
    # (15) Part by part, never as one number. A guest launched on old firmware stays suspect after an update.
    minimum = values.minimum_tcb
    minimum_launch = values.minimum_launch_tcb or minimum
    case.decide(
        15,
        tcbs.reported.at_least(minimum) and tcbs.committed.at_least(minimum) and tcbs.launch.at_least(minimum_launch),
        lambda: f"reported {tcbs.reported}; committed {tcbs.committed}; launch {tcbs.launch}",
        lambda: f"reported and committed {minimum} or later; launch {minimum_launch} or later",
    )
    # (16) A stolen chip key signs anything: ids known to be extracted, and versions that do not exist.
    maximum = values.maximum_tcb or (_SANE if case.product.has_fmc else _SANE_WITHOUT_FMC)
    is_denied = report.chip_id in values.denied_chip_ids
    is_sane = maximum.at_least(tcbs.current) and maximum.at_least(tcbs.reported) and maximum.at_least(tcbs.launch)
    case.decide(
        16,
        is_sane and not is_denied and not values.distrusted,
        lambda: (
            f"{case.product.name}, which this entry distrusts"
            if values.distrusted
            else f"current {tcbs.current}, chip {'on' if is_denied else 'not on'} the deny-list"
            + ("" if maximum.at_least(tcbs.launch) else f", launch {tcbs.launch}")
        ),
        lambda: f"at most {maximum}, chip not on the deny-list",
    )
    # (17) Mitigations that the firmware knows to be active, at launch and now.
    required = values.minimum_mitigation_vector

    def vectors() -> str:
        if report.version < 5:
            return f"none in a version {report.version} report"
        return f"launch {report.launch_mitigations:#x}, current {report.current_mitigations:#x}"

    if required:
        missing = required & ~(report.launch_mitigations & report.current_mitigations)
        case.decide(17, not missing, vectors, lambda: f"at least {required:#x} in both")
    else:
        case.skip(17, vectors, "not asked for")


def _guest(case: Case) -> None:
    report, values = case.report, case.values
    # (18) The launch policy is no part of the measurement. SNP ABI, table 9.
    fault = policy.policy_fault(report, values.guest_policy)
    case.decide(
        18,
        fault is None,
        lambda: f"{report.policy:#x}" + ("" if fault is None else f": {fault}"),
        lambda: policy.describe_policy(values.guest_policy),
    )
    # (19) Unknown bits are told, not refused.
    wanted = values.platform_info
    if policy.is_asked(wanted):
        case.decide(
            19,
            policy.platform_fault(report.platform_info, wanted) is None,
            lambda: policy.describe_platform_info(report.platform_info),
            lambda: policy.describe_platform_wanted(wanted),
        )
    else:
        case.skip(19, lambda: policy.describe_platform_info(report.platform_info), "not asked for")
    # (20) A lower layer must not speak for the guest.
    case.decide(20, report.vmpl == values.vmpl, lambda: f"VMPL {report.vmpl}", lambda: f"VMPL {values.vmpl}")
    # (21) The image that was launched.
    case.decide(
        21,
        report.measurement in values.measurements,
        report.measurement.hex,
        values.trusted_measurement.hex
        if values.ap_eip is None
        else lambda: f"1 to {MAX_VCPUS} vCPUs of {values.trusted_measurement.hex()}",
    )
    _id_block(case)


def _id_block(case: Case) -> None:
    report, values = case.report, case.values
    # (22) Without an ID block of the owner, family, image and SVN are the host's choice. A zero digest is not "any".
    if values.require_id_block:
        author_ok = not values.author_key_digests or (
            report.has_author_key and report.author_key_digest in values.author_key_digests
        )
        case.decide(
            22,
            report.id_key_digest != _ZERO_DIGEST and report.id_key_digest in values.id_key_digests and author_ok,
            lambda: f"ID key {report.id_key_digest.hex()}, author key {report.author_key_digest.hex()}",
            lambda: (
                f"ID key one of {', '.join(digest.hex() for digest in values.id_key_digests)}"
                + "".join(f", author key {digest.hex()}" for digest in values.author_key_digests)
            ),
        )
    else:
        case.skip(22, lambda: f"ID key {report.id_key_digest.hex()}", "not asked for")
    # (23) Rollback of the image, where its ID block counts versions.
    if values.minimum_guest_svn or values.family_id is not None or values.image_id is not None:
        case.decide(
            23,
            report.guest_svn >= values.minimum_guest_svn
            and values.family_id in (None, report.family_id)
            and values.image_id in (None, report.image_id),
            lambda: f"SVN {report.guest_svn}, family {report.family_id.hex()}, image {report.image_id.hex()}",
            lambda: (
                f"SVN {values.minimum_guest_svn} or later"
                + ("" if values.family_id is None else f", family {values.family_id.hex()}")
                + ("" if values.image_id is None else f", image {values.image_id.hex()}")
            ),
        )
    else:
        case.skip(23, lambda: f"SVN {report.guest_svn}", "not asked for")


def _identity(case: Case) -> None:
    report, values, expected = case.report, case.values, case.expected
    # (24) The policy that the host launched the guest with must be one that somebody vetted.
    case.decide(
        24,
        report.host_data in expected.host_data,
        report.host_data.hex,
        "the digest of a policy that is named",
    )
    # (25) Replay, relay: this report was made for this exchange and no other.
    case.decide(
        25,
        report.report_data == expected.report_data,
        report.report_data.hex,
        expected.report_data.hex,
    )
    # (26) Only these machines, where some are named.
    if values.allowed_chip_ids:
        case.decide(
            26,
            report.chip_id in values.allowed_chip_ids,
            lambda: f"chip {report.chip_id.hex()}",
            lambda: f"one of {len(values.allowed_chip_ids)} named chips",
        )
    else:
        case.skip(26, lambda: f"chip {report.chip_id.hex()}", "not asked for")


def _firmware_name(version: tuple[int, int, int]) -> str:
    major, minor, build = version
    return f"firmware {major}.{minor}.{build}"


_SANE_WITHOUT_FMC: Final = Tcb(bootloader=_SANE.bootloader, tee=_SANE.tee, snp=_SANE.snp, microcode=_SANE.microcode)
