"""What the Coordinator says no with: one type per reason, each with a stable code. It raises nothing itself."""

from http import HTTPStatus


class CoordinatorError(Exception):
    """A refusal. ``code`` is stable and append-only, ``status`` the HTTP status, ``action`` says what to do.

    Args:
        detail: What happened, in one sentence, without secrets and without evidence.
        seen: The value that was refused, shortened, where showing it helps.
        wanted: What would have been accepted.
        action: What the caller can do about it; the type's own advice if left out.
    """

    code = "internal"
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    title = "The Coordinator failed"
    action = "Look at the Coordinator's log; try again later."
    retry_after_s = 1
    """What Retry-After says where ``status`` is 429 or 503."""

    def __init__(
        self, detail: str = "", *, seen: str | None = None, wanted: str | None = None, action: str | None = None
    ) -> None:
        self.detail = detail or self.title
        self.seen = seen
        self.wanted = wanted
        if action is not None:
            self.action = action
        parts = [self.detail]
        if seen is not None:
            parts.append(f"seen: {seen}")
        if wanted is not None:
            parts.append(f"wanted: {wanted}")
        super().__init__("; ".join(parts))


class MalformedRequestError(CoordinatorError):
    """The request's bytes are not what the route takes."""

    code, status = "malformed_request", HTTPStatus.BAD_REQUEST
    title = "The request could not be read"
    action = "Compare the request with /openapi.json."


class TooLargeError(CoordinatorError):
    """The body is longer than the route takes."""

    code, status = "too_large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    title = "The request body is too large"
    action = "Send less; the bound is in `wanted`."


class UnsupportedMediaTypeError(CoordinatorError):
    """The body is not declared as JSON."""

    code, status = "unsupported_media_type", HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    title = "The request is not JSON"
    action = "Send Content-Type: application/json."


class NotFoundError(CoordinatorError):
    """No such route, entry, tile or blob."""

    code, status = "not_found", HTTPStatus.NOT_FOUND
    title = "There is nothing here"
    action = "Look at /openapi.json for the routes, at the checkpoint for the size of the ledger."


class NoCheckpointError(NotFoundError):
    """The ledger has no finished checkpoint: nothing was ever written."""

    title = "The ledger is empty"
    action = "The owner sets the first manifest with `contrast set`: the ledger begins with it."


class MethodNotAllowedError(CoordinatorError):
    """The route exists, for another method."""

    code, status = "method_not_allowed", HTTPStatus.METHOD_NOT_ALLOWED
    title = "The route takes another method"
    action = "Use a method of the Allow header."


class BusyError(CoordinatorError):
    """Too many requests are in work, of this peer or of all."""

    code, status = "busy", HTTPStatus.TOO_MANY_REQUESTS
    title = "Too many requests at once"
    action = "Wait a second and try again, with fewer requests at the same time."


class RateLimitedError(CoordinatorError):
    """A peer, a policy, or all peers together have had their share for now.

    Args:
        detail, seen, wanted: As for every refusal.
        retry_after_s: When the next request can succeed.
    """

    code, status = "rate_limited", HTTPStatus.TOO_MANY_REQUESTS
    title = "Too many requests for now"

    def __init__(
        self, detail: str = "", *, seen: str | None = None, wanted: str | None = None, retry_after_s: int = 1
    ) -> None:
        super().__init__(detail, seen=seen, wanted=wanted, action=f"Try again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class NeedsManifestError(CoordinatorError):
    """No manifest has been set yet."""

    code, status = "needs_manifest", HTTPStatus.SERVICE_UNAVAILABLE
    title = "No manifest has been set"
    action = "The workload owner sets one with `contrast set`."


class NeedsRecoveryError(CoordinatorError):
    """The Coordinator was restarted and has no seed."""

    code, status = "needs_recovery", HTTPStatus.SERVICE_UNAVAILABLE
    title = "The Coordinator waits for its recovery"
    action = "A seed share owner runs `contrast recover`."


class NotInRecoveryError(CoordinatorError):
    """A recovery was offered to a Coordinator that needs none."""

    code, status = "not_in_recovery", HTTPStatus.CONFLICT
    title = "The Coordinator needs no recovery"
    action = "Nothing is to be done; `contrast verify` shows its state."


class ChallengeUnknownError(CoordinatorError):
    """The nonce was not made by this epoch."""

    code, status = "challenge_unknown", HTTPStatus.FORBIDDEN
    title = "The challenge is not one of this Coordinator"
    action = "Ask for a new challenge and begin again."


class ChallengeExpiredError(CoordinatorError):
    """The nonce is older than its two minutes."""

    code, status = "challenge_expired", HTTPStatus.FORBIDDEN
    title = "The challenge has expired"
    action = "Ask for a new challenge and begin again."


class ShuttingDownError(CoordinatorError):
    """The process is about to stop and takes no new work."""

    code, status = "shutting_down", HTTPStatus.SERVICE_UNAVAILABLE
    title = "The Coordinator is stopping"
    action = "Try again; another Coordinator or the next start answers."


class WitnessesUnavailableError(CoordinatorError):
    """No quorum of witnesses has cosigned the checkpoint that covers what was recorded: nothing leaves until then."""

    code, status = "witnesses_unavailable", HTTPStatus.SERVICE_UNAVAILABLE
    title = "The witnesses have not cosigned"
    action = "Try the same request again: what was recorded is answered once a quorum of witnesses can be reached."


class NotAShareOwnerError(CoordinatorError):
    """A recovery is signed by nobody whom the manifest in force names as seed share owner."""

    code, status = "not_a_share_owner", HTTPStatus.FORBIDDEN
    title = "The recovery is not by a seed share owner"
    action = "Recover with a private key of SeedshareOwnerPubKeys of the manifest in force."


class StaleStatementError(CoordinatorError):
    """The seed was sealed for a statement that this Coordinator does not make (any more)."""

    code, status = "stale_statement", HTTPStatus.CONFLICT
    title = "The seed is sealed for another statement"
    action = "Attest the Coordinator again and seal the seed for its present statement."
