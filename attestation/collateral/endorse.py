"""Completes evidence with what it takes to judge it: certificates, revocation lists, Intel's collateral.

What came along is kept, with three exceptions. A revocation list that the vendor gives us under its own address
replaces one that came with the evidence, because nothing in a list says whether it is for ASKs or for ASVKs. A VCEK
that is for another TCB or chip than the report counts as none: hosts go on handing out the one from before their last
update. And so do an intermediate and a root that are no chain of the product.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final, Self

from attestation.azure.hcl import parse_hcl
from attestation.collateral import amd, azure, intel
from attestation.collateral.supply import Supply
from attestation.errors import (
    CertificateError,
    CollateralError,
    EndorsementsMissingError,
    EvidenceError,
    FetchError,
    HclError,
    QuoteError,
    ReportError,
)
from attestation.evidence import Evidence, Kind
from attestation.snp.certificates import parse_certificate
from attestation.snp.endorsement import Endorsement, EndorsementKind, parse_endorsement
from attestation.snp.products import GENOA, MILAN, PRODUCTS, TURIN, Product, parse_tcb, product_of
from attestation.snp.report import SIGNING_KEY_VLEK, Report, parse_report
from attestation.tdx.pck import Platform, parse_platform
from attestation.tdx.quote import parse_quote

OFF: Final = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where collateral is fetched from; None asks nobody.

    Attributes:
        amd: AMD's key service, or a mirror of it.
        intel: Intel's service, or a PCCS.
        thim: Azure's service for the machine that asks; only of use in the guest itself.
        proxy: HTTP proxy for all of them.
        directory: where answers are kept; None keeps them in memory.
    """

    amd: str | None = amd.SERVICE
    intel: str | None = intel.SERVICE
    thim: str | None = None
    proxy: str | None = None
    directory: Path | None = None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """As the environment says: addresses, ``off``, or nothing for the vendors' own.

        ``CONTRAST_AMD_KDS``, ``CONTRAST_INTEL_PCCS``, ``CONTRAST_AZURE_THIM`` (``on`` for the usual address, which
        is what a guest with Azure's virtual TPM has anyway), ``CONTRAST_COLLATERAL_PROXY``,
        ``CONTRAST_COLLATERAL_CACHE`` (a directory).
        """
        thim = environ.get("CONTRAST_AZURE_THIM") or ("on" if environ.get(azure.VTPM_VARIABLE) else OFF)
        directory = environ.get("CONTRAST_COLLATERAL_CACHE", "")
        return cls(
            amd=_address(environ.get("CONTRAST_AMD_KDS"), amd.SERVICE),
            intel=_address(environ.get("CONTRAST_INTEL_PCCS"), intel.SERVICE),
            thim=azure.SERVICE if thim == "on" else _address(thim, None),
            proxy=environ.get("CONTRAST_COLLATERAL_PROXY") or None,
            directory=Path(directory) if directory else None,
        )

    @classmethod
    def of_pod(cls, environ: Mapping[str, str]) -> Self | None:
        """What a pod asks for itself: Azure's service where there is one, and what the environment names.

        The vendors' own services are the Coordinator's to ask, once for all pods (docs/adr/0011). None: nobody.
        """
        sources = cls.of(environ)
        named = replace(
            sources,
            amd=sources.amd if environ.get("CONTRAST_AMD_KDS") else None,
            intel=sources.intel if environ.get("CONTRAST_INTEL_PCCS") else None,
        )
        return named if named.thim or named.amd or named.intel else None


class Endorser:
    """Completes evidence from *sources* through *supply*."""

    def __init__(self, supply: Supply, sources: Sources) -> None:
        self._supply = supply
        self._sources = sources

    async def complete(self, evidence: Evidence) -> Evidence:
        """*evidence* with every part that judging it needs.

        A revocation list that nobody gives is left out: whether that is acceptable, the reference values say.

        Raises:
            EndorsementsMissingError: a certificate or collateral is missing and cannot be fetched.
        """
        match evidence.kind:
            case Kind.SNP:
                parts = await self._snp(evidence, evidence.part("report") or b"")
            case Kind.AZURE:
                parts = await self._snp(evidence, _report_of(evidence))
            case Kind.TDX:
                parts = await self._tdx(evidence)
            case _:
                return evidence
        try:
            return Evidence.make(evidence.kind, {**dict(evidence.parts), **parts})
        except EvidenceError as error:
            raise EndorsementsMissingError(f"what was fetched is no evidence: {error}") from None

    async def _snp(self, evidence: Evidence, raw: bytes) -> dict[str, bytes]:
        try:
            report = parse_report(raw)
        except ReportError:
            return {}  # Not worth a request; the judge says what it is.
        is_vlek = report.signing_key == SIGNING_KEY_VLEK
        kind = EndorsementKind.VLEK if is_vlek else EndorsementKind.VCEK
        found: dict[str, bytes] = {}
        vek = evidence.part("vek")
        if vek is not None and self._sources.amd is not None and not _fits(vek, raw):
            vek = None
        if vek is None:
            found = await self._thim(report)
            if not found:
                vek, product = await self._vcek(report, kind)
                found["vek"] = vek
            else:
                product = _product_of(found["vek"], report)
        else:
            product = _product_of(vek, report)
        if "root" not in found and not self._has_chain(evidence, product):
            intermediate, root = await self._chain(product, kind)
            found.update(intermediate=intermediate, root=root)
        crl = await self._crl(product, kind)
        if crl is not None:
            found["crl"] = crl
        return found

    def _has_chain(self, evidence: Evidence, product: Product) -> bool:
        intermediate, root = evidence.part("intermediate"), evidence.part("root")
        if intermediate is None or root is None:
            return False
        # Where nobody can be asked for another one, the judge says what is wrong with this.
        return self._sources.amd is None or _chain_of(intermediate, root) == product.chain

    async def _thim(self, report: Report) -> dict[str, bytes]:
        if self._sources.thim is None:
            return {}
        try:
            answer = await self._supply.current(self._sources.thim, limit=azure.MAX_ANSWER, headers=azure.HEADERS)
            said = azure.parse_thim(answer.body)
        except (FetchError, CollateralError):
            return {}  # AMD's own service is asked next, and says why if that fails, too.
        if said.reported_tcb != report.reported_tcb or not _is_for(said.vek, report.chip_id):
            return {}  # The machine was updated, or we were moved to another one, since it said this.
        return {"vek": said.vek, "intermediate": said.intermediate, "root": said.root}

    async def _vcek(self, report: Report, kind: EndorsementKind) -> tuple[bytes, Product]:
        service = self._sources.amd
        if kind is EndorsementKind.VLEK:
            raise EndorsementsMissingError(
                "the report is signed by a VLEK, whose certificate only the host has: it must pass it in its table"
            )
        if not any(report.chip_id):
            raise EndorsementsMissingError(
                "the report has no chip id, so AMD cannot be asked for its certificate: the host must pass it, or stop "
                "masking chip ids"
            )
        if service is None:
            raise EndorsementsMissingError(
                "no VCEK came with the report and CONTRAST_AMD_KDS is off: let the host pass the certificate table "
                "(`snphost import`), or name a key service"
            )
        failure: FetchError | None = None
        for product in _candidates(report):
            address = amd.vcek_address(service, product, report.chip_id, parse_tcb(report.reported_tcb, product))
            try:
                document = await self._supply.lasting(address, limit=amd.MAX_CERTIFICATE)
            except FetchError as error:
                failure = error
                if error.status != 404:
                    break
            else:
                return document.body, product
        raise EndorsementsMissingError(f"AMD's key service gave no VCEK for this chip and TCB: {failure}")

    async def _chain(self, product: Product, kind: EndorsementKind) -> tuple[bytes, bytes]:
        if self._sources.amd is None:
            raise EndorsementsMissingError("no intermediate and root came with the report and CONTRAST_AMD_KDS is off")
        address = amd.chain_address(self._sources.amd, product, kind)
        try:
            return amd.parse_chain_answer((await self._supply.lasting(address, limit=amd.MAX_CHAIN)).body)
        except (FetchError, CertificateError) as error:
            raise EndorsementsMissingError(f"AMD's key service gave no certificate chain: {error}") from None

    async def _crl(self, product: Product, kind: EndorsementKind) -> bytes | None:
        if self._sources.amd is None:
            return None
        try:
            address = amd.crl_address(self._sources.amd, product, kind)
            return (await self._supply.current(address, limit=amd.MAX_CRL)).body or None
        except FetchError:
            return None

    async def _tdx(self, evidence: Evidence) -> dict[str, bytes]:
        if evidence.part("collateral") is not None:
            return {}
        try:
            platform = parse_platform(parse_quote(evidence.part("quote") or b"").certificates)
        except (QuoteError, CertificateError):
            return {}  # As above.
        if self._sources.intel is None:
            raise EndorsementsMissingError("no collateral came with the quote and CONTRAST_INTEL_PCCS is off")
        try:
            return {"collateral": await self._collateral(self._sources.intel, platform)}
        except (FetchError, CollateralError) as error:
            raise EndorsementsMissingError(f"Intel's service gave no collateral: {error}") from None

    async def _collateral(self, service: str, platform: Platform) -> bytes:
        get = self._supply.current
        pck_crl = await get(
            intel.pck_crl_address(service, platform.ca), limit=intel.MAX_ANSWER, notes=intel.PCK_CRL_CHAIN
        )
        tcb_info = await get(
            intel.tcb_info_address(service, platform.fmspc), limit=intel.MAX_ANSWER, notes=intel.TCB_INFO_CHAIN
        )
        identity = await get(intel.identity_address(service), limit=intel.MAX_ANSWER, notes=intel.IDENTITY_CHAIN)
        root_crl = await get(intel.root_crl_address(service), limit=intel.MAX_ANSWER)
        return intel.assemble(
            pck_crl=(pck_crl.body, pck_crl.note),
            tcb_info=(tcb_info.body, tcb_info.note),
            identity=(identity.body, identity.note),
            root_crl=root_crl.body,
        )


class PodEndorser(Endorser):
    """An endorser that gives back what it cannot complete: the Coordinator, which gets it, knows whom else to ask."""

    async def complete(self, evidence: Evidence) -> Evidence:
        """*evidence* with what there is for it, or as it came."""
        try:
            return await super().complete(evidence)
        except EndorsementsMissingError:
            return evidence


def is_complete(evidence: Evidence) -> bool:
    """Whether certificates and collateral are there and fit, so that nothing about one chip must be asked for.

    A revocation list may still be wanted: it is one for all chips of a product.
    """
    wanted = {
        Kind.SNP: ("vek", "intermediate", "root"),
        Kind.AZURE: ("vek", "intermediate", "root"),
        Kind.TDX: ("collateral",),
    }.get(evidence.kind, ())
    if any(evidence.part(role) is None for role in wanted):
        return False
    vek = evidence.part("vek")
    if vek is None or evidence.kind is Kind.SIMULATED:
        return True
    endorsement = _endorsement(vek)
    chain = _chain_of(evidence.part("intermediate") or b"", evidence.part("root") or b"")
    if endorsement is None or chain != endorsement.product_name.partition("-")[0]:
        return False
    return _fits(vek, _report_of(evidence) if evidence.kind is Kind.AZURE else evidence.part("report") or b"")


def _report_of(evidence: Evidence) -> bytes:
    try:
        return parse_hcl(evidence.part("hcl") or b"").report
    except HclError:
        return b""  # Not worth a request; the judge says what it is.


def _candidates(report: Report) -> tuple[Product, ...]:
    """The products that the report may be from: one, unless it is of version 2, which names none."""
    if report.cpuid is not None:
        product = product_of(report.cpuid[0], report.cpuid[1])
        if product is None:
            raise EndorsementsMissingError(
                f"the processor of family {report.cpuid[0]:#x} and model {report.cpuid[1]:#x} is unknown here"
            )
        return (product,)
    return (PRODUCTS[TURIN],) if not any(report.chip_id[8:]) else (PRODUCTS[MILAN], PRODUCTS[GENOA])


def _product_of(vek: bytes, report: Report) -> Product:
    try:
        name = parse_endorsement(vek).product_name.partition("-")[0]
    except CertificateError:
        name = ""
    return PRODUCTS.get(name) or _candidates(report)[0]


@lru_cache(maxsize=512)  # One for each chip and TCB, and every report of it brings it along.
def _endorsement(vek: bytes) -> Endorsement | None:
    try:
        return parse_endorsement(vek)
    except CertificateError:
        return None


@lru_cache(maxsize=64)  # A handful for each vendor.
def _chain_of(intermediate: bytes, root: bytes) -> str:
    """The product that two certificates say they are the chain of, or ""; whether they are, is for the judge."""
    try:
        middle, top = parse_certificate(intermediate), parse_certificate(root)
    except CertificateError:
        return ""
    is_chain = middle.issuer == top.subject == top.issuer and middle.subject != top.subject
    return top.common_name.removeprefix("ARK-") if is_chain else ""


def _fits(vek: bytes, raw: bytes) -> bool:
    """Whether *vek* may have signed the report *raw*; True also where AMD could not be asked for another one."""
    try:
        report = parse_report(raw)
    except ReportError:
        return True
    if report.signing_key == SIGNING_KEY_VLEK or not any(report.chip_id):
        return True
    endorsement = _endorsement(vek)
    if endorsement is None or endorsement.kind is not EndorsementKind.VCEK:
        return False
    layout = PRODUCTS[MILAN if endorsement.tcb.fmc is None else TURIN]
    return endorsement.tcb == parse_tcb(report.reported_tcb, layout) and _is_for(vek, report.chip_id)


def _is_for(vek: bytes, chip_id: bytes) -> bool:
    """Whether a VCEK is for a chip; what cannot be read is for none, and a masked id fits every one."""
    endorsement = _endorsement(vek)
    hwid = None if endorsement is None else endorsement.hwid
    return hwid is not None and (not any(chip_id) or hwid.ljust(64, b"\0") == chip_id)


def _address(text: str | None, usual: str | None) -> str | None:
    return usual if not text else None if text == OFF else text
