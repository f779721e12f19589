"""The published TDX vectors as evidence, with reference values that each genuine quote satisfies."""

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attestation.evidence import Evidence, Kind
from attestation.judge import ChainCache, judge
from attestation.reference import TDX_STATUSES, TdxReferenceValues
from attestation.tdx.quote import Quote, parse_quote
from attestation.verdict import Verdict


@dataclass(frozen=True)
class Published:
    """One quote: the published description, and the bytes."""

    facts: dict[str, Any]
    raw: bytes
    folder: Path

    @property
    def name(self) -> str:
        return Path(self.facts["file"]).name

    @property
    def parsed(self) -> Quote:
        return parse_quote(self.raw)

    def collateral(self, name: str) -> bytes:
        return (self.folder / "collateral" / f"{name}.json").read_bytes()

    @property
    def opinions(self) -> dict[str, dict[str, Any]]:
        """What dcap-qvl said of it, by collateral."""
        return dict(self.facts.get("dcap_qvl") or {})

    def evidence(self, collateral: bytes | None) -> Evidence:
        return Evidence.make(
            Kind.TDX, {"quote": self.raw} if collateral is None else {"quote": self.raw, "collateral": collateral}
        )

    def values(self, **changes: Any) -> TdxReferenceValues:
        """The strictest entry that this quote satisfies, except for the TCB status."""
        quote = self.parsed
        fields: dict[str, Any] = {
            "platform": "vector",
            "mr_td": quote.mr_td,
            "mr_seam": quote.mr_seam,
            "rtmrs": quote.rtmrs,
            "xfam": quote.xfam,
            "allowed_tcb_statuses": TDX_STATUSES,
        }
        return TdxReferenceValues(**{**fields, **changes})

    def judge(
        self,
        collateral: str | bytes | None,
        now: int | datetime,
        values: TdxReferenceValues | None = None,
        *,
        thorough: bool = True,
        raw: bytes | None = None,
        cache: ChainCache | None = None,
    ) -> Verdict:
        quote = self.parsed
        part = self.collateral(collateral) if isinstance(collateral, str) else collateral
        evidence = (
            self.evidence(part) if raw is None else Evidence.make(Kind.TDX, {"quote": raw, "collateral": part or b""})
        )
        return judge(
            evidence,
            [values or self.values()],
            report_data=quote.report_data,
            host_data={quote.host_data},
            now=datetime.fromtimestamp(now, UTC) if isinstance(now, int) else now,
            thorough=thorough,
            cache=cache,
        )


def written(certificates: tuple[bytes, ...], *, width: int = 64, eol: str = "\n", tail: str = "\n") -> bytes:
    """Certificates as PEM in lines of *width*, 0 for one line."""
    blocks = []
    for each in certificates:
        text = base64.b64encode(each).decode()
        lines = [text[at : at + width] for at in range(0, len(text), width)] if width else [text]
        blocks.append(eol.join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----"]))
    return (eol.join(blocks) + tail).encode()


def with_chain(quote: Quote, pem: bytes) -> bytes:
    """The quote with another text for its certificates, every length around it fitting."""
    raw = bytearray(quote.raw.removesuffix(quote.chain_pem) + pem)
    inner = len(quote.raw) - len(quote.chain_pem) - 4
    body = len(quote.signed)
    for at in (inner, body, body + 4 + 2 * 64 + 2):
        size = int.from_bytes(raw[at : at + 4], "little") + len(pem) - len(quote.chain_pem)
        raw[at : at + 4] = size.to_bytes(4, "little")
    return bytes(raw)


def published_quotes(vectors: Path) -> list[Published]:
    """Every TDX quote of the vectors, broken ones included."""
    folder = vectors / "tdx"
    return [
        Published(facts, (folder / facts["file"]).read_bytes(), folder)
        for facts in json.loads((folder / "quotes.json").read_text())
        if facts.get("version") in (4, 5)
    ]


def find_quote(vectors: Path, name: str) -> Published:
    """The quote whose file name contains *name*."""
    return next(quote for quote in published_quotes(vectors) if name in quote.name)
