"""Counters and gauges for Prometheus in a registry of their own. They hold no names of peers, pods or secrets."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_STATES = ("empty", "recovery", "active")


class Metrics:
    """What the Coordinator counts. One object per process (or per test)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        prefix = "contrast_coordinator"
        self.requests = Counter(f"{prefix}_requests", "Requests answered.", ("route", "status"), registry=self.registry)
        self.seconds = Histogram(
            f"{prefix}_request_seconds",
            "Time from the request's head to its answer.",
            ("route",),
            registry=self.registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
        )
        self.refusals = Counter(f"{prefix}_refusals", "Requests refused, by code.", ("code",), registry=self.registry)
        self.issued = Counter(f"{prefix}_certificates_issued", "Certificates recorded.", registry=self.registry)
        self.repeated = Counter(
            f"{prefix}_certificates_repeated", "Requests answered from the ledger.", registry=self.registry
        )
        self.secrets = Counter(f"{prefix}_secrets_released", "Workload secrets released.", registry=self.registry)
        self.size = Gauge(f"{prefix}_ledger_entries", "Entries in the ledger.", registry=self.registry)
        self.generation = Gauge(f"{prefix}_manifest_generation", "Manifests set so far.", registry=self.registry)
        self.ca_end = Gauge(
            f"{prefix}_ca_end_seconds",
            "Unix time at which the CA of the manifest in force ends; no leaf ends later.",
            registry=self.registry,
        )
        self.witnessed = Gauge(
            f"{prefix}_ledger_witnessed_entries",
            "Entries that a quorum of witnesses has cosigned.",
            registry=self.registry,
        )
        self.contradictions = Counter(
            f"{prefix}_witness_contradictions",
            "Times a witness knew a longer or another history: a rollback or a fork.",
            registry=self.registry,
        )
        self.in_work = Gauge(f"{prefix}_requests_in_work", "Requests in work.", registry=self.registry)
        self.state = Gauge(f"{prefix}_state", "1 for the state that holds.", ("state",), registry=self.registry)
        self.set_state("empty")

    def set_state(self, state: str) -> None:
        """Show *state* (empty, recovery or active) as the one that holds."""
        for each in _STATES:
            self.state.labels(each).set(1 if each == state else 0)

    def text(self) -> bytes:
        """The exposition in Prometheus' text format."""
        return generate_latest(self.registry)
