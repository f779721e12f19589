"""Images that the node hands over layer by layer, as AKS' tardev snapshotter does: Kata's places and options for them.

The guest sets dm-verity up over each device, so a node that knows the content can change none of it. Nothing is hashed
in here; `images.verity` does.
"""

import base64
from collections.abc import Mapping, Sequence
from importlib import resources as package_files
from typing import Final

from images.config import VerityLayer
from policy.model import SHARED

DEVICE: Final = r"^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}[.][0-7]$|^[0-9a-f]{2}(/[0-9a-f]{2})*$"
CONTAINER_ID: Final = "^[a-z0-9]{64}$"
FSTYPES: Final = ("tar", "fuse3.kata-overlay")
_OPTION: Final = "io.katacontainers.fs-opt."
_PREFIX: Final = f"{_OPTION}layer-src-prefix=/var/lib/containerd/io.containerd.snapshotter.v1.tardev/layers"
_PLACE: Final = "/run/kata-containers/sandbox/layers/"
_START: Final = "# Storages: exactly one image, pulled in the guest by digest"
_END: Final = 'image_ok(image, source) if {\n\timage == "pause"'
# The root lies beside the files that the node copies, so ids are held to a form that no such file's name has.
_CHANGED: Final[Mapping[str, str]] = {
    'concat("", ["/run/kata-containers/", input.container_id, "/rootfs"])': (
        f'concat("", ["{SHARED}", input.container_id])'
    ),
    'valid_id(id) if regex.match("^[a-z0-9][a-z0-9.-]{0,127}$", id)': (
        f'valid_id(id) if regex.match("{CONTAINER_ID}", id)'
    ),
}


def layered(rules: str) -> str:
    """The *rules* for images that the guest pulls, made into those for layers: their storages, root and ids.

    Raises:
        ValueError: *rules* has other text where it is to be changed.
    """
    before, start, rest = rules.partition(_START)
    _, end, after = rest.partition(_END)
    if not start or not end:
        raise ValueError("the rules have no part about images that the guest pulls")
    found = before + package_files.files("policy").joinpath("layers.rego").read_text("utf-8") + end + after
    for old, new in _CHANGED.items():
        if found.count(old) != 1:
            raise ValueError(f"the rules have {found.count(old)} lines {old}, wanted 1")
        found = found.replace(old, new)
    return found


def root_path(container_id: str) -> str:
    """Where the overlay of a container's layers is mounted."""
    return SHARED + container_id


def mount_point(layer: VerityLayer) -> str:
    """Where a layer is mounted, for all containers that have it."""
    return _PLACE + layer.name


def layer_options(layer: VerityLayer) -> list[str]:
    """The options of a layer's storage."""
    return ["ro", f"{_OPTION}block_device=file", f"{_OPTION}is-layer", f"{_OPTION}root-hash={layer.root_hash}"]


def overlay_options(layers: Sequence[VerityLayer]) -> list[str]:
    """The options of the overlay over *layers*, top first."""
    named = [",".join((layer.name, "tar", *layer_options(layer))) for layer in layers]
    return [
        _PREFIX,
        *(f"{_OPTION}layer={base64.b64encode(text.encode()).decode()}" for text in named),
        f"{_OPTION}overlay-rw",
        "lowerdir=" + ":".join(layer.name for layer in layers),
    ]
