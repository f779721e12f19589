"""Computing policies for `generate`: images are looked up, `policy` is asked; nothing is decided here."""

from collections.abc import Iterator, Mapping, Sequence

from cli.planning import PolicyMaker
from images.config import ImageConfig, VerityLayer
from images.errors import ImageError
from images.layout import ImageStore
from images.reference import parse_reference
from k8s.nodes import Data
from k8s.problems import Path, Problem, ResourceError
from k8s.resources import INITDATA, ResourceSet, Workload
from policy.carrier import carry
from policy.rego import policy_text
from policy.settings import Settings


def policy_maker(
    resources: ResourceSet,
    images: ImageStore,
    *,
    publish_secret_values: bool,
    initdata: Sequence[str] = (),
    pause_layers: tuple[VerityLayer, ...] | None = None,
) -> PolicyMaker:
    """Return what computes the policy of a workload from its pod spec after injection.

    With *pause_layers*, those of the nodes' pause image, policies demand all images as layers, whose root hashes
    *images* must tell. It raises ResourceError for images that cannot be found, and UnsupportedError for what no policy
    can express.
    """
    settings = Settings(
        publish_secret_values=publish_secret_values,
        initdata=tuple(initdata),
        pause_layers=pause_layers,
    )
    known: dict[str, ImageConfig] = {}

    def make(workload: Workload, pod: Mapping[str, Data]) -> bytes:
        problems: list[Problem] = []
        for image, path in _images(workload, pod):
            try:
                # Without a digest nothing is looked up: `policy` refuses it, and says what to write.
                if image not in known and parse_reference(image).digest is not None:
                    known[image] = images.config(image, accounts=True)
            except ImageError as error:
                problems.append(workload.pod_problem(path, str(error)))
        if problems:
            raise ResourceError(problems)
        found = policy_text(workload, known, pod=pod, resources=resources, settings=settings)
        # What stands in the file already stays in its form: only a person removes an annotation.
        wrapped = workload.runtime_class in settings.initdata or INITDATA in workload.annotations
        return carry(found.text, initdata=wrapped).measured

    return make


def _images(workload: Workload, pod: Mapping[str, Data]) -> Iterator[tuple[str, Path]]:
    """Give every image of *pod*, and where it stands in the author's file."""
    for kind in ("initContainers", "containers"):
        written = [container.get("name") for container in workload.items(*workload.pod_path, kind)]
        containers = pod.get(kind)
        for container in containers if isinstance(containers, list) else []:
            if not isinstance(container, dict) or not isinstance(image := container.get("image"), str):
                continue
            name = container.get("name")
            yield image, (kind, written.index(name), "image") if name in written else (kind,)
