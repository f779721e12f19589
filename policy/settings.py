"""What a cluster's nodes do that no pod spec says; one value for a whole run, nothing is read from anywhere."""

from dataclasses import dataclass

from images.config import VerityLayer


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Choices of the operator.

    Attributes:
        pause_layers: The layers of the pause image, lowest first, which no YAML names. With them, every image must come
            as its layers under dm-verity, as AKS' tardev snapshotter hands them over; None where guests pull images.
        kubernetes_service: The kubelet adds the eight ``KUBERNETES_…`` variables of the API server to every container,
            whatever ``enableServiceLinks`` says. They are demanded, in their exact form. False for nodes that add none.
        publish_secret_values: Allow values of Kubernetes Secrets in the policy, which everybody can read for good.
        initdata: Runtime classes whose guests read initdata (Kata 3.2x and later) instead of the policy's annotation.
    """

    initdata: tuple[str, ...] = ()
    pause_layers: tuple[VerityLayer, ...] | None = None
    kubernetes_service: bool = True
    publish_secret_values: bool = False


DEFAULT_SETTINGS = Settings()
