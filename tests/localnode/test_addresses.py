"""Addresses on loopback, and what Service names mean to a pod."""

import ipaddress
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localnode.addresses import (
    LOOPBACK,
    Endpoint,
    Service,
    ServicePort,
    allocate,
    endpoint,
    hosts_document,
    parse_loopback,
    parse_network,
    pod_network,
)
from localnode.errors import AddressError

SHIM = Path(__file__).resolve().parents[2] / "localnode" / "shim"


def service(name: str = "emoji", namespace: str = "default", target: int | str = 8443) -> Service:
    return Service(
        name=name, namespace=namespace, selector=(("app", name),), ports=(ServicePort(port=443, target=target),)
    )


@given(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=60))
def test_every_workspace_has_a_network_on_loopback(path: str) -> None:
    network = pod_network(Path("/") / path)
    assert network.subnet_of(LOOPBACK)
    assert ipaddress.IPv4Address("127.0.0.1") not in network
    assert network == pod_network(Path("/") / path)


def test_pods_get_different_addresses_and_too_many_are_refused() -> None:
    network = parse_network("127.9.0.0/28")
    assert allocate(network, ["a", "b"]) == {"a": "127.9.0.10", "b": "127.9.0.11"}
    with pytest.raises(AddressError, match="larger network"):
        allocate(network, [str(n) for n in range(6)])
    with pytest.raises(AddressError, match=r"\(0\)"):
        allocate(parse_network("127.9.0.0/32"), ["a"])


@pytest.mark.parametrize("text", ["10.0.0.0/24", "127.0.0.0/7", "127.1.2.3/24", "loopback", "::1/128", ""])
def test_a_network_outside_loopback_is_refused(text: str) -> None:
    """Pods without any protection must not be reachable from elsewhere."""
    with pytest.raises(AddressError):
        parse_network(text)


@pytest.mark.parametrize("text", ["0.0.0.0", "192.168.0.1", "::1", "localhost", ""])  # noqa: S104  never bound
def test_an_address_outside_loopback_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse_loopback(text)
    assert parse_loopback("127.3.2.1") == "127.3.2.1"


def test_a_service_selects_by_all_its_labels_within_its_namespace() -> None:
    chosen = Service(name="a", namespace="x", selector=(("app", "a"), ("tier", "1")), ports=())
    assert chosen.selects("x", {"app": "a", "tier": "1", "more": ""})
    assert not chosen.selects("x", {"app": "a"})
    assert not chosen.selects("y", {"app": "a", "tier": "1"})
    assert not Service(name="a", namespace="x", selector=(), ports=()).selects("x", {"app": "a"})


def test_a_target_port_may_be_a_name() -> None:
    assert endpoint(service(target="https"), "127.0.0.2", {"https": 8443}).ports == ((443, 8443),)
    with pytest.raises(AddressError, match="'https'"):
        endpoint(service(target="https"), "127.0.0.2", {"http": 80})


def test_short_names_mean_the_own_namespace() -> None:
    services: list[tuple[Service, list[Endpoint]]] = [(service(), []), (service(namespace="other"), [])]
    assert set(json.loads(hosts_document(services, namespace="default"))["services"]) == {
        "emoji",
        *(f"emoji.{ns}{end}" for ns in ("default", "other") for end in ("", ".svc", ".svc.cluster.local")),
    }


def resolve(path: Path, code: str) -> Any:
    """What a program of a pod sees: Python started with the shim."""
    done = subprocess.run(
        [sys.executable, "-c", f"import socket, json\nprint(json.dumps({code}))"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SHIM), "CONTRAST_HOSTS": str(path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_program_resolves_service_names_and_ports(tmp_path: Path) -> None:
    """The address of a ready pod, and the pod's own port for the Service's."""
    path = tmp_path / "hosts"
    ready = [Endpoint(address="127.9.0.10", ports=((443, 8443),))]
    path.write_bytes(hosts_document([(service(), ready)], namespace="default"))
    for host in ("emoji", "EMOJI", "emoji.default.svc.cluster.local."):
        assert resolve(path, f"socket.getaddrinfo({host!r}, 443, type=socket.SOCK_STREAM)[0][4]") == [
            "127.9.0.10",
            8443,
        ]
    assert resolve(path, "socket.getaddrinfo('emoji', '443', 0, socket.SOCK_STREAM)[0][4]") == ["127.9.0.10", 8443]
    assert resolve(path, "socket.getaddrinfo(b'emoji', 443)[0][4]") == ["127.9.0.10", 8443]
    assert resolve(path, "socket.getaddrinfo('127.0.0.1', 443)[0][4]") == ["127.0.0.1", 443]
    assert resolve(path, "socket.getaddrinfo(None, 443)[0][4][1]") == 443


def test_replicas_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    addresses = ["127.9.0.10", "127.9.0.11", "127.9.0.12"]
    ready = [Endpoint(address=address, ports=((443, 8443),)) for address in addresses]
    path.write_bytes(hosts_document([(service(), ready)], namespace="default"))
    seen = resolve(
        path, "[[a[4][0] for a in socket.getaddrinfo('emoji', 443, 0, socket.SOCK_STREAM)] for _ in range(3)]"
    )
    assert sorted(first for first, *_ in seen) == addresses
    assert all(sorted(one) == addresses for one in seen), "a client may go on to the next when one does not answer"


def test_a_program_that_asks_two_services_in_turn_meets_every_replica(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    ready = [Endpoint(address=f"127.9.0.{n}", ports=((443, 8443),)) for n in (10, 11)]
    path.write_bytes(hosts_document([(service(), ready), (service("voting"), ready)], namespace="default"))
    code = "[socket.getaddrinfo(name, 443)[0][4][0] for _ in range(2) for name in ('emoji', 'voting')]"
    seen = resolve(path, code)
    assert {seen[0], seen[2]} == {seen[1], seen[3]} == {"127.9.0.10", "127.9.0.11"}


def test_a_service_without_ready_pods_is_no_unknown_name(tmp_path: Path) -> None:
    """A client shall try again, and the reason shall be readable."""
    path = tmp_path / "hosts"
    path.write_bytes(hosts_document([(service(), [])], namespace="default"))
    code = "[str(e) for e in [__import__('pytest').raises(socket.gaierror, socket.getaddrinfo, 'emoji', 443).value]]"
    assert "no ready pod" in resolve(path, code)[0]
    assert socket.EAI_AGAIN < 0
