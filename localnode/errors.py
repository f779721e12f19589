"""What the local node refuses; every message says what was seen, what was wanted and what to do."""


class LocalNodeError(Exception):
    """The base of everything this package refuses; ``code`` is stable."""

    code = "local_node"


class DevWorkspaceError(LocalNodeError):
    """The workspace lacks what `contrast dev init` makes, or holds something else."""

    code = "dev_workspace"


class UnwritableError(DevWorkspaceError):
    """A file of the workspace cannot be written: no space, no permission."""

    code = "local_io"


class PodNotFoundError(LocalNodeError):
    """No confidential pod of that name in the given files."""

    code = "pod_not_found"


class PolicyMissingError(LocalNodeError):
    """A confidential pod without a policy, or with one that is no base64 text."""

    code = "policy_missing"


class GuestError(LocalNodeError):
    """A simulated guest cannot be launched."""

    code = "guest_failed"


class DeniedError(LocalNodeError):
    """The pod's own policy does not allow what the pod's YAML asks for."""

    code = "denied_by_policy"


class ContainerFailedError(LocalNodeError):
    """A container ended that should not have, or could not be started."""

    code = "container_failed"


class AddressError(LocalNodeError):
    """An address that is not a loopback one, or too few of them."""

    code = "bad_address"


class NodeRunningError(LocalNodeError):
    """This workspace's node runs already."""

    code = "node_running"


class NodeNotRunningError(LocalNodeError):
    """No node of this workspace runs."""

    code = "node_not_running"
