"""Who gets which loopback address, and what Service names mean; opens no socket and reads no file."""

import hashlib
import ipaddress
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from localnode.errors import AddressError

LOOPBACK = ipaddress.IPv4Network("127.0.0.0/8")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """One port of a Service: what clients use, and where the pods listen (a number, or a container port's name)."""

    port: int
    target: int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A name for some pods. ``external`` is a LoadBalancer, reachable from outside the pods' network."""

    name: str
    namespace: str
    selector: tuple[tuple[str, str], ...]
    ports: tuple[ServicePort, ...]
    external: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """What a pod may call it; short first."""
        qualified = f"{self.name}.{self.namespace}"
        return (self.name, qualified, f"{qualified}.svc", f"{qualified}.svc.cluster.local")

    def selects(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Whether a pod belongs to it. A Service without a selector selects nothing."""
        return (
            bool(self.selector)
            and namespace == self.namespace
            and all(labels.get(key) == value for key, value in self.selector)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A pod behind a Service: its address, and the pod's port for each port of the Service."""

    address: str
    ports: tuple[tuple[int, int], ...]


def pod_network(root: Path) -> ipaddress.IPv4Network:
    """The network of a workspace's pods: 127.A.B.0/24 by the SHA-256 of its path, so that two do not collide."""
    digest = hashlib.sha256(str(root.resolve()).encode()).digest()
    # From 127.64.0.0 on: low ones are what people use by hand.
    return ipaddress.IPv4Network(f"127.{64 + digest[0] % 128}.{digest[1]}.0/24")


def parse_network(text: str) -> ipaddress.IPv4Network:
    """Read a network given by a person.

    Raises:
        AddressError: it is no network within 127.0.0.0/8.
    """
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise AddressError(f"network {text!r}: {error}; write it like 127.9.0.0/24") from error
    if not network.subnet_of(LOOPBACK):
        raise AddressError(f"network {text} is not on loopback; wanted a part of {LOOPBACK}, like 127.9.0.0/24")
    return network


def parse_loopback(text: str) -> str:
    """Check that *text* is a loopback address: the local node never listens to the outside.

    Raises:
        AddressError: it is not.
    """
    try:
        inside = ipaddress.IPv4Address(text) in LOOPBACK
    except ValueError:
        inside = False
    if not inside:
        raise AddressError(f"address {text!r}; wanted one in {LOOPBACK}, like 127.0.0.1")
    return text


def allocate(network: ipaddress.IPv4Network, pods: Sequence[str]) -> dict[str, str]:
    """One address for each of *pods*, in order, skipping the first ten (and with them 127.0.0.1).

    Raises:
        AddressError: the network is too small.
    """
    hosts = [network.network_address + offset for offset in range(10, network.num_addresses - 1)]
    if len(hosts) < len(pods):
        raise AddressError(
            f"{len(pods)} pods need more addresses than {network} has ({len(hosts)}); give a larger network"
        )
    return {pod: str(address) for pod, address in zip(pods, hosts, strict=False)}


def endpoint(service: Service, address: str, named_ports: Mapping[str, int]) -> Endpoint:
    """The endpoint that a pod at *address*, with container ports *named_ports*, is for *service*.

    Raises:
        AddressError: the Service aims at a port name that the pod does not have.
    """
    ports = []
    for port in service.ports:
        target = named_ports.get(port.target) if isinstance(port.target, str) else port.target
        if target is None:
            raise AddressError(
                f"Service {service.name}: no container port is named {port.target!r}; seen: {sorted(named_ports)}"
            )
        ports.append((port.port, target))
    return Endpoint(address=address, ports=tuple(ports))


def hosts_document(services: Iterable[tuple[Service, Sequence[Endpoint]]], *, namespace: str) -> bytes:
    """What the programs of a pod in *namespace* are told: the file that CONTRAST_HOSTS names (JSON).

    ``{"services": {name: {"endpoints": [[address, {service port: pod port}], …]}}}``; short names: own namespace.
    """
    table: dict[str, object] = {}
    for service, endpoints in services:
        entry = {"endpoints": [[e.address, {str(port): target for port, target in e.ports}] for e in endpoints]}
        for name in service.names:
            if name != service.name or service.namespace == namespace:
                table[name.lower()] = entry
    return json.dumps({"services": table}, sort_keys=True, indent=1).encode()
