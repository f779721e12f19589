"""What was released with this CLI: reference values of guest images, Coordinator policies; data, judged elsewhere.

It stands in `release.json` beside this module and in no image, so an image never vouches for itself.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from attestation.reference import ReferenceValues
from manifest.reference_file import parse_reference_values

_HEX32: Final = re.compile(r"[0-9a-f]{64}")
_FIELDS: Final = {"format", "version", "note", "reference_values", "coordinator_policies", "images"}


class ReleaseDataError(Exception):
    """The file `release.json` of this installation is not what was released; install again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Release data.

    Attributes:
        version: of the CLI.
        note: one sentence for people on what is and is not in it.
        reference_values: one entry for each platform of a released guest image.
        coordinator_policies: SHA-256 digests of the released Coordinator's policies.
        images: pinned references of the released images by name.
        raw_reference_values: the same as JSON, as `--reference-values` takes it.
    """

    version: str
    note: str
    reference_values: tuple[ReferenceValues, ...]
    coordinator_policies: tuple[bytes, ...]
    images: Mapping[str, str]
    raw_reference_values: bytes

    def lines(self) -> tuple[str, ...]:
        """Return what `contrast --version` prints."""
        lines = [f"contrast {self.version}"]
        for kind, entries in json.loads(self.raw_reference_values).items():
            for entry in entries:
                shown = ", ".join(f"{name} {value}" for name, value in entry.items() if isinstance(value, str))
                lines.append(f"  reference values {kind}: {shown}")
        lines += [f"  Coordinator policy {digest.hex()}" for digest in self.coordinator_policies]
        lines += [f"  image {name}: {reference}" for name, reference in sorted(self.images.items())]
        if not self.reference_values:
            lines.append("  reference values: none")
        if self.note:
            lines.append(f"  {self.note}")
        return tuple(lines)


def parse_release(raw: bytes) -> Release:
    """Parse *raw*.

    Raises:
        ReleaseDataError: a field is missing, unknown or malformed; or a simulated anchor is named, as no release may.
    """
    try:
        document = json.loads(raw)
        if set(document) != _FIELDS or document["format"] != 1:
            raise ReleaseDataError(
                f"release.json has the fields {sorted(document)}, wanted {sorted(_FIELDS)} in format 1"
            )
        values = document["reference_values"]
        if "simulated" in values:
            raise ReleaseDataError("release.json names a simulated anchor; a release never does")
        policies = document["coordinator_policies"]
        if not all(isinstance(item, str) and _HEX32.fullmatch(item) for item in policies):
            raise ReleaseDataError("release.json names a Coordinator policy that is no SHA-256 in lower-case hex")
        raw_values = json.dumps(values).encode()
        return Release(
            version=str(document["version"]),
            note=str(document["note"]),
            reference_values=tuple(parse_reference_values(raw_values, name="release.json")) if values else (),
            coordinator_policies=tuple(bytes.fromhex(item) for item in policies),
            images=dict(document["images"]),
            raw_reference_values=raw_values,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReleaseDataError(f"release.json is damaged: {error}") from error


@cache
def release() -> Release:
    """Return the data of this installation."""
    return parse_release((resources.files("cli") / "release.json").read_bytes())
