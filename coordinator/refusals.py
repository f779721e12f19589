"""Why a command or a recorded event is refused by the rules of the domain. Answering is the server's business."""

from http import HTTPStatus

from coordinator.errors import CoordinatorError


class StalePreparationError(CoordinatorError):
    """The command was prepared against another generation; the service prepares it once more."""

    code, status = "stale_preparation", HTTPStatus.CONFLICT
    title = "The manifest changed while the request was being prepared"
    action = "Try again."


class StaleTransitionError(CoordinatorError):
    """The manifest was prepared to follow another transition than the one in force."""

    code, status = "stale_transition", HTTPStatus.CONFLICT
    title = "Another manifest was set in the meantime"
    action = "Run `contrast verify` to see the manifest in force, prepare yours against it and set it again."


class CoordinatorExcludedError(CoordinatorError):
    """The new manifest does not accept the Coordinator that is asked to set it."""

    code, status = "coordinator_excluded", HTTPStatus.CONFLICT
    title = "The manifest does not accept the running Coordinator"
    action = "Keep the running Coordinator's policy with Role coordinator, and its reference values, in the manifest."


class PoliciesMismatchError(CoordinatorError):
    """The policies sent are not those that the manifest names."""

    code, status = "policies_mismatch", HTTPStatus.BAD_REQUEST
    title = "Policies and manifest do not belong together"
    action = "Send exactly the policy texts whose SHA-256 the manifest names; run `contrast generate` again."


class BadManifestError(CoordinatorError):
    """The manifest's bytes are not a manifest."""

    code, status = "invalid_manifest", HTTPStatus.BAD_REQUEST
    title = "The manifest cannot be read"
    action = "Correct the listed places; `contrast generate` writes a valid manifest."


class UnknownPolicyError(CoordinatorError):
    """The evidence names a policy (HOSTDATA) that the manifest in force does not."""

    code, status = "unknown_policy", HTTPStatus.FORBIDDEN
    title = "The manifest does not name this pod's policy"
    action = (
        "Run `contrast generate` and `contrast set` with the YAML that the pod was started from, then start it again."
    )


class EvidenceRefusedError(CoordinatorError):
    """The evidence fails a check of the manifest's reference values."""

    code, status = "evidence_refused", HTTPStatus.FORBIDDEN
    title = "The attestation was refused"
    action = "Compare the named check with ReferenceValues in the manifest."


class BindingMismatchError(CoordinatorError):
    """The evidence was made for another purpose, nonce or key."""

    code, status = "binding_mismatch", HTTPStatus.FORBIDDEN
    title = "The evidence does not belong to this request"
    action = "Make evidence for the challenge, the CSR's key and the HPKE key of this request, with purpose workload."


class BadCsrError(CoordinatorError):
    """The certificate signing request is no proof of possession of an acceptable key."""

    code, status = "bad_csr", HTTPStatus.BAD_REQUEST
    title = "The certificate signing request was refused"
    action = "Send a DER PKCS#10 request for a P-384 or P-256 key, signed by that key."


class SeedMismatchError(CoordinatorError):
    """The seed offered is not the seed of this ledger."""

    code, status = "seed_mismatch", HTTPStatus.FORBIDDEN
    title = "The seed does not belong to this ledger"
    action = "Use the seed-shares.json that was written when this ledger's first manifest was set."


class CaMismatchError(CoordinatorError):
    """The seed is this ledger's, but what the ledger records does not follow from it."""

    code, status = "ca_mismatch", HTTPStatus.CONFLICT
    title = "The ledger's CA is not the seed's"
    action = (
        "The Coordinator that wrote this ledger made a CA of its own: whoever holds its key can mint certificates. Do "
        "not continue it; audit it, and begin a new ledger."
    )


class CaExpiredError(CoordinatorError):
    """A CA certificate has ended: what it would sign is valid nowhere."""

    code, status = "ca_expired", HTTPStatus.SERVICE_UNAVAILABLE
    title = "The CA has ended"
    action = (
        "The workload owner sets a manifest with other bytes (a space is enough): it gets a new mesh CA. The root CA "
        "ends with its ledger; after that a new ledger is begun."
    )
    retry_after_s = 3600


class HeadMismatchError(CoordinatorError):
    """The head that the caller knows is not one that this ledger extends."""

    code, status = "head_mismatch", HTTPStatus.CONFLICT
    title = "This ledger does not extend the head that you know"
    action = "The ledger was rolled back or replaced: keep both heads and do not continue."


class RefusalNotDueError(CoordinatorError):
    """A refusal of this code was recorded less than ten minutes ago, or sixteen codes are in use."""

    code, status = "refusal_not_due", HTTPStatus.CONFLICT
    title = "The refusal is counted and recorded later"


class RuleBrokenError(Exception):
    """A recorded event is one that no honest Coordinator could have written.

    Args:
        seq: The first entry that breaks a rule.
        rule: What the rule says, or how it was broken.
        seen: What stands in the ledger.
        wanted: What would have satisfied the rule.
    """

    code = "rule_broken"

    def __init__(self, seq: int, rule: str, *, seen: str = "", wanted: str = "") -> None:
        text = f"entry {seq}: {rule}"
        if seen:
            text += f"; seen: {seen}"
        if wanted:
            text += f"; wanted: {wanted}"
        super().__init__(text)
        self.seq, self.rule, self.seen, self.wanted = seq, rule, seen, wanted


class UnprovenError(Exception):
    """An input that a rule needs (a blob) is missing, so the event is neither right nor wrong: unproven."""

    code = "unproven"

    def __init__(self, seq: int, what: str) -> None:
        super().__init__(f"entry {seq}: {what} is missing, so the entry is unproven")
        self.seq, self.what = seq, what


class UnknownRulesError(UnprovenError):
    """A decision was made by a version of the rules that this program does not know: it can say nothing about it."""

    code = "unknown_rules"

    def __init__(self, seq: int, why: str) -> None:
        Exception.__init__(self, f"entry {seq}: {why}; until then it is unproven")
        self.seq, self.what = seq, why
