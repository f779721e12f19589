"""What the Initializer is told: environment and command line, parsed once; nothing is looked up here."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from initializer.errors import SettingsError
from wire.address import AddressError, with_port
from wire.routes import Port

DEFAULT_DIRECTORY = "/contrast/tls-config"

_EPILOG = f"""\
environment:
  COORDINATOR_HOST        host or host:port of the Coordinator (default port {Port.MESH.value}); required
  CONTRAST_TLS_DIR        directory for the files (default {DEFAULT_DIRECTORY}); the only place that is written
  CONTRAST_SIMULATED_PROCESSOR
                          socket of a simulated secure processor, for development; refused where a real one exists
  CONTRAST_AZURE_VTPM_POLICY
                          SHA-256 of this pod's policy in hex, in an Azure guest whose virtual TPM is to prove it
  CONTRAST_AZURE_THIM     on, off or a URL: Azure's service for this machine's certificates (default: on with the
                          virtual TPM); what it does not give, the Coordinator asks AMD for
  CONTRAST_AMD_KDS, CONTRAST_INTEL_PCCS
                          URLs that this pod is to ask itself; by default it leaves them to the Coordinator
  CONTRAST_COLLATERAL_PROXY, CONTRAST_COLLATERAL_CACHE
                          HTTP proxy, and directory for answers (default: memory only)

files, all of one answer or none:
  certChain.pem           the certificate and the intermediate
  key.pem                 its private key, mode 0400
  mesh-root.pem           trusts everything of the manifest in force
  coordinator-root.pem    trusts everything of this ledger, past and future
  cert.tlog-proof         the receipt: the issuance is in the ledger
  workload-secret         128 hex digits, mode 0400; only if the manifest names a WorkloadSecretID for this pod

exit status:
  0    the files are in place (with --renew: ended by SIGTERM or SIGINT while they were)
  1    refused for good, or the answer failed a check; nothing was written
  2    the environment or the command line is wrong
  3    no answer in --attempts tries
  4    the directory cannot be written, or there is no secure processor
  143  ended by SIGTERM or SIGINT before the files were in place
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to do. `attempts` is how often to try in a row, 0 without end."""

    coordinator: str
    directory: Path
    renew: bool = False
    attempts: int = 0


def parse_settings(arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """The settings of one run.

    Raises:
        SettingsError: something is missing or malformed. (Unknown options end the process as argparse does, status 2.)
    """
    parser = argparse.ArgumentParser(
        prog="contrast-initializer",
        description="Attests this pod to the Coordinator and writes the certificate that it gets.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--renew", action="store_true", help="stay, and renew at two thirds of the certificate's life")
    parser.add_argument(
        "--attempts", type=int, default=0, metavar="N", help="give up after N tries in a row (default: never)"
    )
    given = parser.parse_args(arguments)
    if given.attempts < 0:
        raise SettingsError(f"--attempts is {given.attempts}, wanted 0 (never give up) or more")
    host = environ.get("COORDINATOR_HOST", "")
    if not host:
        raise SettingsError("COORDINATOR_HOST is not set: name the Coordinator, for example coordinator-ready.default")
    try:
        coordinator = with_port(host, Port.MESH)
    except AddressError as error:
        raise SettingsError(f"COORDINATOR_HOST: {error}") from None
    directory = Path(environ.get("CONTRAST_TLS_DIR") or DEFAULT_DIRECTORY)
    if not directory.is_absolute():
        raise SettingsError(f"CONTRAST_TLS_DIR is {directory}, wanted an absolute path")
    return Settings(coordinator=coordinator, directory=directory, renew=given.renew, attempts=given.attempts)
