"""`contrast generate`: policies into the YAML, the manifest, keys; all is checked before the first byte is written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from attestation.reference import ReferenceValues
from cli.deployment import demand_paths, read_deployment
from cli.entries import Entries, entries, left_out
from cli.errors import DiffersError, UsageFaultError
from cli.imaging import (
    VERITY,
    ImageChoices,
    fetch_images,
    image_options,
    lock_change,
    pause_image,
    read_lock,
    short_name,
)
from cli.options import PATHS, manifest_option
from cli.owners import Owners, seedshare_owners, workload_owners
from cli.planning import OURS, Faults, YamlPlan, check_pods, pinned_image, plan_yaml
from cli.policies import policy_maker
from cli.release import release
from cli.session import Session, example, json_option
from cli.since import changed_lines, document, seen, show
from cli.workspace import FileChange, Workspace, apply_changes, change, read_file, read_optional
from cli.yardstick import render_policy_file
from images.config import VerityLayer
from images.errors import ImageNotFoundError
from images.layout import ImageStore
from images.lock import EMPTY_LOCK, Lock
from images.pull import Progress
from images.transport import Mirror, RegistrySettings
from k8s.inject import INITIALIZER
from k8s.resources import ResourceSet
from manifest.model import Manifest, Policy
from manifest.parse import parse_manifest
from manifest.reference_file import parse_reference_values
from manifest.render import render_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the user asked for."""

    paths: tuple[Path, ...]
    manifest: Path
    reference_values: Path | None
    owner_keys: tuple[Path, ...]
    seedshare_keys: tuple[Path, ...]
    disable_updates: bool
    images: ImageChoices
    initializer: str | None
    publish_secret_values: bool
    initdata: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that `generate` will write, and what it will say."""

    changes: tuple[FileChange, ...]
    policies: Mapping[bytes, Policy]
    removed: Mapping[bytes, Policy]
    yaml: YamlPlan
    notes: tuple[str, ...]


@click.command(
    epilog=example(
        "contrast generate deployment/\ncontrast generate --check deployment/   # for CI: exit 1 if not up to date"
    )
)
@click.argument("paths", nargs=-1, required=True, type=PATHS)
@manifest_option("The manifest to write; what you edited in it is kept [default: manifest.json].")
@click.option(
    "--reference-values",
    type=PATHS,
    default=None,
    help="File with reference values for a new manifest, or to replace those in it "
    "[default: what the manifest has, else .contrast-dev/reference-values.json].",
)
@click.option(
    "-w",
    "--add-workload-owner-key",
    "owner_keys",
    multiple=True,
    type=PATHS,
    help="Key that may set the next manifest, may be repeated; one that does not exist is made "
    "[a new manifest gets workload-owner.pem].",
)
@click.option(
    "--add-seedshare-owner-key",
    "seedshare_keys",
    multiple=True,
    type=PATHS,
    help="Key that gets a share of the seed, may be repeated; one that does not exist is made "
    "[a new manifest gets seedshare-owner.pem].",
)
@click.option(
    "-d", "--disable-updates", is_flag=True, help="Name no owner: after `contrast set` no other manifest follows."
)
@click.option(
    "--images",
    "image_paths",
    multiple=True,
    type=PATHS,
    help="Folder with OCI layouts of the images, may be repeated [default: images/ and .contrast-dev/images/].",
)
@image_options
@click.option(
    "--initializer-image",
    default=None,
    metavar="REFERENCE",
    help="The Initializer's image [default: the released one, else what the YAML has from an earlier run, else the "
    "one of `contrast dev init`].",
)
@click.option(
    "--publish-secret-values",
    is_flag=True,
    help="Allow values of Kubernetes Secrets in policies, which everybody who reaches the Coordinator can read.",
)
@click.option(
    "--initdata",
    multiple=True,
    metavar="RUNTIME_CLASS",
    help="Pods of this class get their policy as initdata (Kata 3.2x and later), may be repeated; a pod that has "
    "initdata already keeps that form [default: as the annotation io.katacontainers.config.agent.policy].",
)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if something would change.")
@json_option
@click.pass_obj
def generate(
    session: Session,
    *,
    paths: tuple[Path, ...],
    manifest_path: Path | None,
    reference_values: Path | None,
    owner_keys: tuple[Path, ...],
    seedshare_keys: tuple[Path, ...],
    disable_updates: bool,
    image_paths: tuple[Path, ...],
    mirrors: tuple[Mirror, ...],
    registry_ca: Path | None,
    insecure: tuple[str, ...],
    layers: str,
    pause_image_given: str | None,
    no_pin: bool,
    update_lock: bool,
    initializer_image: str | None,
    publish_secret_values: bool,
    initdata: tuple[str, ...],
    check: bool,
) -> None:
    """Prepare YAML for confidential containers.

    For every pod with a runtimeClassName that begins with contrast-cc: adds the Initializer and the /contrast volume,
    computes the policy and writes it into the annotation. Writes manifest.json, coordinator-policy.sha256, and the keys
    workload-owner.pem and seedshare-owner.pem where they are absent. Files are changed by insertion, so every other
    byte stays; run again it changes nothing. With any fault nothing is written at all.
    """
    if disable_updates and owner_keys:
        raise UsageFaultError("--disable-updates names no owner, so it excludes --add-workload-owner-key")
    workspace = session.workspace
    wanted = Wanted(
        paths=paths,
        manifest=manifest_path or workspace.manifest,
        reference_values=reference_values,
        owner_keys=owner_keys,
        seedshare_keys=seedshare_keys,
        disable_updates=disable_updates,
        images=ImageChoices(
            folders=image_paths or (workspace.images, workspace.dev_images),
            registries=RegistrySettings(mirrors=mirrors, ca_file=registry_ca, insecure=frozenset(insecure)),
            pin=not no_pin,
            verity=layers == VERITY,
            pause=pause_image(pause_image_given, verity=layers == VERITY),
            update=update_lock,
        ),
        initializer=initializer_image or release().images.get("initializer"),
        publish_secret_values=publish_secret_values,
        initdata=initdata,
    )
    with session.output.progress("computing policies") as bars:
        plan = make_plan(wanted, workspace, lambda image: bars(short_name(image.reference), image.done, image.total))
    if check and plan.changes:
        pods = seen(plan.yaml.subjects, plan.yaml.policies, plan.yaml.before)
        raise DiffersError(
            f"not up to date ({len(plan.changes)} of the files that `contrast generate` writes): run it",
            details=(*(workspace.shown(item.path) for item in plan.changes), *changed_lines(pods)),
        )
    apply_changes(plan.changes)
    _tell(session, plan)


def make_plan(wanted: Wanted, workspace: Workspace, report: Callable[[Progress], None]) -> Plan:
    """Decide everything that is to be written; *report* hears of images that are fetched.

    Raises:
        RefusedError: with every fault of YAML, images, manifest and keys.
    """
    demand_paths(wanted.paths)
    faults = Faults()
    existing: Manifest | None = None
    values: tuple[ReferenceValues, ...] = ()
    resources: ResourceSet | None = None
    yaml: YamlPlan | None = None
    notes: list[str] = []
    lock: Lock | None = None
    locking: tuple[FileChange, ...] = ()
    raw = read_optional(wanted.manifest, what="manifest")
    with faults.collect():
        existing = None if raw is None else parse_manifest(raw, name=str(wanted.manifest))
    with faults.collect():
        values = _reference_values(wanted, workspace, existing, notes, damaged=raw is not None and existing is None)
    with faults.collect():
        resources = read_deployment(wanted.paths)
        check_pods(resources, wanted.paths)
    with faults.collect():
        lock = EMPTY_LOCK if wanted.images.update else read_lock(workspace.image_lock)
    if resources is not None and lock is not None:
        with faults.collect():
            pause = wanted.images.pause
            named = wanted.initializer or _written_initializer(resources) or _dev_initializer()
            more = (named, *(() if pause is None else (pause,)))
            images = fetch_images(wanted.images, resources, more, lock, report)
            initializer = _initializer(images, named)
            layers: tuple[VerityLayer, ...] | None = None
            with faults.collect("--pause-image"):
                layers = None if pause is None else images.config(pause, accounts=True).layers or ()
            make = policy_maker(
                resources,
                images,
                publish_secret_values=wanted.publish_secret_values,
                initdata=wanted.initdata,
                pause_layers=layers,
            )
            yaml = plan_yaml(resources, images, initializer, make, faults, pin=wanted.images.pin)
            locking = lock_change(workspace.image_lock, lock, images)
            if wanted.images.verity:
                notes.append(
                    f"the policies demand every image as its layers under the root hashes that "
                    f"{workspace.shown(workspace.image_lock)} has too, and deny nodes whose guests pull images"
                )
    faults.raise_if_any()
    if yaml is None:
        raise AssertionError("a plan without faults has YAML")
    plan = _complete(wanted, workspace, yaml, existing, values)
    return replace(plan, changes=(*plan.changes, *locking), notes=(*notes, *plan.notes))


def _complete(
    wanted: Wanted,
    workspace: Workspace,
    yaml: YamlPlan,
    existing: Manifest | None,
    values: Sequence[ReferenceValues],
) -> Plan:
    """Add manifest, digest and keys to the plan; keys are made last, since that takes a while."""
    faults = Faults()
    found: Entries = entries(yaml.subjects, existing)
    owners = shares = Owners(entries=())
    manifest: tuple[FileChange, ...] = ()
    with faults.collect():
        owners = workload_owners(
            None if existing is None else existing.workload_owner_key_digests,
            wanted.owner_keys,
            workspace.workload_owner_key,
            disable=wanted.disable_updates,
        )
    with faults.collect():
        shares = seedshare_owners(
            None if existing is None else existing.seedshare_owner_pub_keys,
            wanted.seedshare_keys,
            workspace.seedshare_owner_key,
        )
    faults.raise_if_any()
    with faults.collect():
        rendered = render_manifest(
            policies=found.policies,
            reference_values=values,
            workload_owner_key_digests=owners.entries,
            seedshare_owner_pub_keys=shares.entries,
            existing=existing,
        )
        manifest = change(wanted.manifest, rendered, what="manifest")
    faults.raise_if_any()
    coordinators = list(dict.fromkeys(item.digest for item in yaml.subjects if item.coordinator))
    digests = change(workspace.coordinator_policy, render_policy_file(coordinators), what="Coordinator policy digest")
    return Plan(
        changes=(*owners.created, *shares.created, *yaml.changes, *manifest, *digests),
        policies=found.policies,
        removed=left_out(yaml.subjects, existing),
        yaml=yaml,
        notes=(*yaml.notes, *found.notes, *owners.notes, *shares.notes),
    )


def _reference_values(
    wanted: Wanted, workspace: Workspace, existing: Manifest | None, notes: list[str], *, damaged: bool
) -> tuple[ReferenceValues, ...]:
    """Return the reference values for the manifest: those asked for, else those it has, else those of `dev init`."""
    given, dev = wanted.reference_values, workspace.dev_reference_values
    if given is not None:
        return parse_reference_values(read_file(given, what="reference values"), name=str(given))
    if existing is not None or damaged:
        if existing is not None and existing.simulated and dev.exists():
            here = parse_reference_values(read_file(dev, what="reference values"), name=str(dev))
            if tuple(here) != tuple(existing.reference_values):
                notes.append(f"the manifest has other reference values than {workspace.shown(dev)}, and keeps them")
        return () if existing is None else tuple(existing.reference_values)
    if dev.exists():
        notes.append(f"reference values: {workspace.shown(dev)}, a SIMULATED platform that protects nothing")
        return parse_reference_values(read_file(dev, what="reference values"), name=str(dev))
    if release().reference_values:
        return release().reference_values
    raise UsageFaultError(
        "there are no reference values for the manifest: give those of your guest image with --reference-values FILE, "
        "or run `contrast dev init` for a trial on a simulated platform"
    )


def _dev_initializer() -> str:
    return f"contrast.invalid/contrast/initializer:v{release().version}"


def _written_initializer(resources: ResourceSet) -> str | None:
    """Return the image that the pods' Initializers have, where all have one and it is not that of a trial."""
    images = {
        container.get("image")
        for workload in resources.confidential
        for container in workload.items(*workload.pod_path, "initContainers")
        if container.get("name") == INITIALIZER
    }
    image = images.pop() if len(images) == 1 else None
    return image if isinstance(image, str) and not image.startswith(OURS) else None


def _initializer(images: ImageStore, reference: str) -> str:
    """Return the Initializer's image with a digest: as given, else as the layouts hold it."""
    if "@sha256:" in reference:
        return reference
    try:
        return pinned_image(images, reference)
    except ImageNotFoundError as error:
        if reference != _dev_initializer():
            raise
        raise UsageFaultError(
            "there is no image of the Initializer: build k8s/Containerfile.initializer, push it and name it with "
            "--initializer-image (docs/operations.md), or run `contrast dev init` for a trial on a simulated platform"
        ) from error


def _tell(session: Session, plan: Plan) -> None:
    output, workspace = session.output, session.workspace
    changed = [workspace.shown(item.path) for item in plan.changes]
    pods = seen(plan.yaml.subjects, plan.yaml.policies, plan.yaml.before)
    for note in plan.notes:
        output.note(note)
    about = document(pods, plan.yaml.images, plan.policies, plan.removed)
    output.document({"ok": True, "changed": changed, "notes": list(plan.notes), **about})
    show(output, pods, plan.yaml.images, plan.policies, plan.removed)
    output.say()
    output.say(f"written: {', '.join(changed)}" if changed else "nothing to change, everything is up to date")
