"""What does the owner accept? Manifests: parsed, rendered, authorised. Evidence is judged in `attestation`."""

from manifest.errors import ManifestError, Problem
from manifest.model import Manifest, Policy, Role
from manifest.parse import parse_manifest
from manifest.render import render_manifest

__all__ = ["Manifest", "ManifestError", "Policy", "Problem", "Role", "parse_manifest", "render_manifest"]
