"""What `contrast verify` says when all is well: as JSON, and in tables for people. It verifies nothing."""

from dataclasses import dataclass
from typing import Any

from cli import cosigned as witnessing
from cli.events import fork_json, given_up, time_text
from cli.output import Output
from cli.verifying import Verified
from ledger.cosigned import Cosigned


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A verified ledger, and how it came to be believed.

    Attributes:
        verified: The ledger's report and head.
        simulated: No hardware stands behind its Coordinator.
        sources: Whose reference values judged it, in words.
        cosigned: What witnesses say; None where they were not asked.
        folder: Where the results were written, as people know it.
    """

    verified: Verified
    simulated: bool
    sources: tuple[str, ...]
    cosigned: Cosigned | None
    folder: str

    def document(self) -> dict[str, Any]:
        """Return what `--json` shows."""
        report, head = self.verified.report, self.verified.head
        return {
            "ok": True,
            "full": report.full,
            "origin": head.origin,
            "size": head.size,
            "extends": self.verified.extends,
            "root": head.root.hex(),
            "simulated": self.simulated,
            "forks": [fork_json(fork) for fork in report.state.forks],
            "sources": list(self.sources),
            "manifests": [
                {
                    "generation": item.generation,
                    "seq": item.seq,
                    "time_ms": item.time_ms,
                    "sha256": item.manifest.digest.hex(),
                    "transition": item.transition.hex(),
                }
                for item in report.manifests
            ],
            "coordinators": [
                {
                    "epoch": item.key.hex(),
                    "policy": item.policy.hex(),
                    "product": item.product,
                    "opened": item.opened,
                    "closed": item.closed,
                }
                for item in report.epochs
            ],
            "coordinator_policies": [digest.hex() for digest in report.coordinator_policies],
            "counts": dict(report.counts),
            "witnesses": witnessing.document(self.cosigned),
            "written": self.folder,
        }

    def tell(self, output: Output) -> None:
        """Say the same to people, the verdict last."""
        for fork in self.verified.report.state.forks:
            output.banner(given_up(fork))
        self._tell_manifests(output)
        self._tell_seed(output)
        self._tell_proof(output)
        witnessing.tell(output, self.cosigned, self.verified.head.size)
        output.say(f"ledger {self.verified.head.origin}")
        output.say(f"verified: trust {self.folder}/mesh-root.pem for the manifest in force", style="bold green")

    def _tell_manifests(self, output: Output) -> None:
        output.table(
            "Manifests",
            ["generation", "entry", "set at (UTC)", "SHA-256", "policies"],
            [
                (
                    str(item.generation),
                    str(item.seq),
                    time_text(item.time_ms),
                    item.manifest.digest.hex(),
                    str(len(item.manifest.policies)),
                )
                for item in self.verified.report.manifests
            ],
        )
        output.say()

    def _tell_seed(self, output: Output) -> None:
        """Say who had the seed, could have had it, or can bring it back."""
        report = self.verified.report
        output.table(
            "Coordinators (each could have had the seed)",
            ["epoch key", "policy", "processor", "entries"],
            [
                (
                    item.key.hex()[:16],
                    item.policy.hex(),
                    item.product,
                    f"{item.opened} to {'now' if item.closed is None else item.closed - 1}",
                )
                for item in report.epochs
            ],
        )
        output.say()
        running = {item.policy for item in report.epochs}
        for digest in report.coordinator_policies:
            if digest not in running:
                output.say(f"also named with Role coordinator, and never run: policy {digest.hex()}")
        owners = len(report.state.seed_shares)
        output.say(f"besides them, {owners} seed share owner{'s' if owners != 1 else ''} can restore the seed")

    def _tell_proof(self, output: Output) -> None:
        report, size = self.verified.report, self.verified.head.size
        done = ", ".join(f"{number} {kind}" for kind, number in sorted(report.counts.items()))
        if report.full:
            output.say(f"proved: all {size} entries replayed, every decision derived again: {done}")
            self._tell_growth(output)
            return
        output.say(
            f"proved: every manifest, Coordinator and recovery of this ledger of {size} entries, judged "
            f"again from {sum(report.counts.values())} control events with inclusion proofs ({done})"
        )
        self._tell_growth(output)
        output.say(
            "only --full proves: that each attestation and certificate followed the manifest of its time, and that no "
            "manifest or Coordinator stands outside that chain (the attested Coordinator says that it checked both)"
        )

    def _tell_growth(self, output: Output) -> None:
        """Say what is known of rollbacks: no ledger can show by itself that it is the newest."""
        if self.verified.extends is not None:
            output.say(f"proved: it extends the {self.verified.extends} entries that this workspace remembered")
            return
        output.say(
            "not proved: that this is the newest ledger, since none was remembered here; from now on this one is, and "
            "witnesses know more (--witness-policy)"
        )
