"""The policy file that names a Coordinator's witnesses, read at its start. It asks nobody."""

from coordinator.settings import Settings, SettingsError
from ledger.policyfile import MAX_POLICY_BYTES, Policy, PolicyError, Witness, parse_policy


def read_witness_policy(settings: Settings) -> Policy | None:
    """The policy that *settings* name, if they name one.

    Raises:
        SettingsError: It cannot be read, or *strict* waits for a quorum that it does not have or cannot ask.
    """
    path = settings.witness_policy
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            policy = parse_policy(file.read(MAX_POLICY_BYTES + 1))
    except OSError as error:
        raise SettingsError(f"the witness policy {path} cannot be read ({error.strerror})") from None
    except PolicyError as error:
        raise SettingsError(f"{path}: {error}") from None
    if settings.strict and policy.quorum is None:
        raise SettingsError(f"--strict waits for a quorum, and {path} says `quorum none`")
    if not policy.satisfied_by([witness.name for witness in askable(policy)]):
        raise SettingsError(f"{path}: the witnesses that have a URL are no quorum; give the others theirs")
    return policy


def askable(policy: Policy) -> tuple[Witness, ...]:
    """The witnesses that have a URL."""
    return tuple(witness for witness in policy.witnesses if witness.url)
