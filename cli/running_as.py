"""Whom the Initializer must run as, so that the containers can read the key that it writes; edits nothing.

The key file is readable by its writer only, and by root. Who the containers are is said by the YAML or by their images.
"""

from collections.abc import Mapping

from images.errors import ImageError
from images.layout import ImageStore
from k8s.edits import apply_to_data
from k8s.inject import INITIALIZER
from k8s.resources import Workload
from policy.identity import Identity, container_identity
from policy.reader import Reader


def runs_as(
    workload: Workload, pinned: Mapping[str, str], images: ImageStore, notes: list[str]
) -> tuple[int, int] | None:
    """Return user and group of the containers of *workload*; None if an image is not there, which `policy` tells.

    Where they differ, root can read everything, so another one is chosen; of several others the first, and *notes* says
    who is left without a key.

    Args:
        workload: a confidential workload.
        pinned: image reference in the file to what `generate` writes there.
        images: where images are looked up.
        notes: takes what a person should know.
    """
    pod = apply_to_data(workload.pod_spec, ())
    assert isinstance(pod, dict)  # noqa: S101 a pod spec is a mapping
    found: dict[str, Identity] = {}
    for index, container in enumerate(workload.items(*workload.pod_path, "containers")):
        reference = container.get("image")
        if container.get("name") == INITIALIZER or not isinstance(reference, str):
            continue
        try:
            who = _identity(Reader(workload=workload, pod=pod), index, pinned.get(reference, reference), images)
        except ImageError:
            return None
        if who is None:
            return (0, 0)  # Nobody knows, so `policy` refuses the pod: the Initializer needs no fault of its own.
        found[str(container.get("name"))] = who
    if not found:
        return None
    name, chosen = next(((name, who) for name, who in found.items() if who.uid), next(iter(found.items())))
    left = sorted(other for other, who in found.items() if who.uid not in {0, chosen.uid})
    if left and not any(
        item.get("name") == INITIALIZER for item in workload.items(*workload.pod_path, "initContainers")
    ):
        notes.append(
            f"{workload.file.path}: the key of {workload} is for user {chosen.uid}, as container {name} runs; "
            f"{', '.join(left)} cannot read it: write one runAsUser for all, if they need it"
        )
    return chosen.uid, chosen.gid


def _identity(reader: Reader, index: int, image: str, images: ImageStore) -> Identity | None:
    """Ask with the image's configuration alone first: its layers are read only where names or groups stand in them."""
    container = reader.workload.items(*reader.workload.pod_path, "containers")[index]
    context = container.get("securityContext")
    security = context if isinstance(context, dict) else {}
    for accounts in (False, True):
        config = images.config(image, accounts=accounts)
        who = container_identity(reader, security, ("containers", index), config, image)
        if who is not None:
            return who
    return None
