"""The part of an explanation about layers that the node hands over: which one is another, or in another place."""

from collections.abc import Sequence
from dataclasses import dataclass

from images.config import VerityLayer
from policy.layers import DEVICE, FSTYPES, layer_options, mount_point, overlay_options
from policy.reasons import MISSING, Data, Findings, found, get, items, same


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerChecks:
    """What is expected of one container's image, *layers* top first; *source* says where the expectation comes from."""

    findings: Findings
    layers: tuple[VerityLayer, ...]
    root: object
    source: str

    def check(self, storages: Sequence[object]) -> int:
        """Judge the storages of the image among *storages*; answers how many an honest node would ask for."""
        pulls = sum(get(storage, "driver") == "image_guest_pull" for storage in storages)
        if pulls:
            self.findings.add(
                "storages", pulls, "no image that the guest pulls: this policy demands layers", "setting --layers"
            )
        parts = [storage for storage in storages if get(storage, "fstype") in FSTYPES]
        wanted = len(self.layers) + 1
        if len(parts) != wanted:
            text = f"exactly one image: {len(self.layers)} layers of fstype tar, then one fuse3.kata-overlay"
            self.findings.add("storages (layers)", len(parts), text, self.source)
        for index, (layer, storage) in enumerate(zip(self.layers, parts, strict=False)):
            self.layer(f"storages (layers)[{index}]", layer, storage)
        for storage in parts[len(self.layers) : wanted]:
            self.overlay("storages (overlay)", storage)
        return wanted

    def layer(self, where: str, layer: VerityLayer, storage: object) -> None:
        """One layer at its turn."""
        equal = self.findings.equal
        equal(f"{where}.driver", get(storage, "driver"), "blk", self.source)
        equal(f"{where}.fstype", get(storage, "fstype"), "tar", self.source)
        source = get(storage, "source")
        if not isinstance(source, str) or not found(DEVICE, source):
            self.findings.add(f"{where}.source", source, "the PCI address of a device", self.source)
        equal(f"{where}.mount_point", get(storage, "mount_point"), mount_point(layer), self.source)
        equal(f"{where}.options", get(storage, "options"), layer_options(layer), self.source)
        self.plain(where, storage)

    def overlay(self, where: str, storage: object) -> None:
        """The overlay of all layers."""
        equal = self.findings.equal
        equal(f"{where}.driver", get(storage, "driver"), "overlayfs", self.source)
        equal(f"{where}.fstype", get(storage, "fstype"), "fuse3.kata-overlay", self.source)
        equal(f"{where}.source", get(storage, "source"), "none", self.source)
        equal(f"{where}.mount_point", get(storage, "mount_point"), self.root, "the container's root")
        seen, options = items(get(storage, "options")), overlay_options(self.layers)
        if not same(get(storage, "options"), options):
            # One option says which layer differs; the whole list is unreadable.
            for index, (one, want) in enumerate(zip(seen, options, strict=False)):
                equal(f"{where}.options[{index}]", one, want, self.source)
            if len(seen) != len(options):
                self.findings.add(f"{where}.options", len(seen), f"{len(options)} options", self.source)
        self.plain(where, storage)

    def plain(self, where: str, storage: object) -> None:
        """What no such storage has."""
        self.findings.empty(f"{where}.driver_options", get(storage, "driver_options"), self.source)
        self.findings.equal(f"{where}.fs_group", get(storage, "fs_group"), None, self.source)
        shared = get(storage, "shared")
        if shared is not False and shared is not MISSING:
            self.findings.add(f"{where}.shared", shared, "false", self.source)


def layers_of(data: Data, image: object) -> tuple[VerityLayer, ...]:
    """The layers that a policy's expectations *data* demand of *image*, top first; none where the guest pulls."""
    listed = items(get(data, "shared", "layers", image)) if isinstance(image, str) else ()
    return tuple(VerityLayer(name=str(get(one, "id")), root_hash=str(get(one, "hash"))) for one in listed)


def demands_layers(data: Data) -> bool:
    """Whether a policy demands images as layers."""
    return isinstance(get(data, "shared", "layers"), dict)
