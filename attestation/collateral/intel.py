"""Intel's provisioning certification service, or a cache of it (PCCS): addresses, and collateral from its answers.

TCB information and enclave identity are signed as they stand in the answer, so they are cut out byte by byte.
"""

import json
import re
from typing import Final
from urllib.parse import unquote

from attestation.errors import CollateralError

SERVICE: Final = "https://api.trustedservices.intel.com"
ROOT_CRL: Final = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
MAX_ANSWER: Final = 131_072
# The headers that chains come in, today's name first: a PCCS that is older, or that fills its cache from an older
# service, uses the others under every address.
PCK_CRL_CHAIN: Final = ("sgx-pck-crl-issuer-chain",)
TCB_INFO_CHAIN: Final = ("tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain")
IDENTITY_CHAIN: Final = ("sgx-enclave-identity-issuer-chain", "sgx-qe-identity-issuer-chain")
_SIGNATURE: Final = re.compile(r'\s*,\s*"signature"\s*:\s*"([0-9a-fA-F]{128})"\s*\}\s*')


def pck_crl_address(service: str, ca: str) -> str:
    """Where the list of revoked PCK certificates of *ca* (``platform``, ``processor``) is, in DER."""
    return f"{service.rstrip('/')}/sgx/certification/v4/pckcrl?ca={ca}&encoding=der"


def tcb_info_address(service: str, fmspc: bytes) -> str:
    """Where the TCB information for platforms of *fmspc* is."""
    return f"{service.rstrip('/')}/tdx/certification/v4/tcb?fmspc={fmspc.hex().upper()}"


def identity_address(service: str) -> str:
    """Where the identity of the TD quoting enclave is."""
    return f"{service.rstrip('/')}/tdx/certification/v4/qe/identity"


def root_crl_address(service: str) -> str:
    """Where the root's list is: Intel has it elsewhere, a PCCS has it itself (in hex)."""
    return ROOT_CRL if service.rstrip("/") == SERVICE else f"{service.rstrip('/')}/sgx/certification/v4/rootcacrl"


def assemble(
    *, pck_crl: tuple[bytes, str], tcb_info: tuple[bytes, str], identity: tuple[bytes, str], root_crl: bytes
) -> bytes:
    """One document of collateral, as it stands in evidence; answers come with the chain from their header.

    Raises:
        CollateralError: an answer is of another shape.
    """
    info, info_signature = _signed(tcb_info[0], "tcbInfo")
    enclave, enclave_signature = _signed(identity[0], "enclaveIdentity")
    return json.dumps(
        {
            "pck_crl_issuer_chain": _chain(pck_crl[1], PCK_CRL_CHAIN),
            "root_ca_crl": _crl(root_crl).hex(),
            "pck_crl": _crl(pck_crl[0]).hex(),
            "tcb_info_issuer_chain": _chain(tcb_info[1], TCB_INFO_CHAIN),
            "tcb_info": info,
            "tcb_info_signature": info_signature,
            "qe_identity_issuer_chain": _chain(identity[1], IDENTITY_CHAIN),
            "qe_identity": enclave,
            "qe_identity_signature": enclave_signature,
        }
    ).encode()


def _signed(raw: bytes, name: str) -> tuple[str, str]:
    """The document and its signature out of ``{"<name>":{…},"signature":"…"}``."""
    try:
        text = raw.decode("ascii")
        start = re.fullmatch(r'(\s*\{\s*"' + name + r'"\s*:\s*).*', text, re.DOTALL)
        if start is None:
            raise CollateralError(f"the answer does not begin with {name}")
        _, end = json.JSONDecoder().raw_decode(text, len(start[1]))
    except (ValueError, RecursionError) as error:
        raise CollateralError(f"the answer with {name} is no JSON: {type(error).__name__}") from None
    signature = _SIGNATURE.fullmatch(text, end)
    if signature is None:
        raise CollateralError(f"the answer with {name} has no signature of 64 bytes behind it")
    return text[len(start[1]) : end], signature[1]


def _chain(header: str, names: tuple[str, ...]) -> str:
    chain = unquote(header)
    if "-----BEGIN CERTIFICATE-----" not in chain:
        raise CollateralError(f"the header {' or '.join(names)} holds no certificates")
    return chain


def _crl(raw: bytes) -> bytes:
    """DER as Intel answers, or the hex of it, as a PCCS does."""
    if raw[:1] == b"\x30":
        return raw
    try:
        return bytes.fromhex(raw.decode("ascii").strip())
    except ValueError:
        raise CollateralError("a revocation list is neither DER nor hex") from None
