"""Evidence between its message and its type; nothing is judged here."""

from attestation.errors import EvidenceError
from attestation.evidence import Evidence
from wire.json import MessageError
from wire.messages import EvidenceMessage, EvidencePart


def to_message(evidence: Evidence) -> EvidenceMessage:
    """The message that carries *evidence*."""
    parts = tuple(EvidencePart(role=role, data=data) for role, data in evidence.parts)
    return EvidenceMessage(kind=evidence.kind.value, parts=parts)


def from_message(message: EvidenceMessage) -> Evidence:
    """The evidence in *message*; roles stand in ascending order, each once.

    Raises:
        MessageError: the kind is unknown, or a role is doubled, misplaced, missing or too large.
    """
    try:
        evidence = Evidence.make(message.kind, {part.role: part.data for part in message.parts})
    except EvidenceError as error:
        raise MessageError(str(error), path="evidence") from None
    if tuple(part.role for part in message.parts) != tuple(role for role, _ in evidence.parts):
        raise MessageError("the roles of the evidence must ascend, each once", path="evidence.parts")
    return evidence
