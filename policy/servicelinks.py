"""The variables that the kubelet makes of Services, where a pod's author asks for them; of Services in the files only.

They are allowed, not demanded, since a Service may come after the pod: all of one Service, or none. Name, port and
protocol are the Service's; its address is the cluster's choice, unless the file gives it.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from k8s.resources import ANNOTATION_PREFIX, Resource
from policy.reader import Reader
from policy.text import Hole, Text

SERVICE_LINKS: Final = ANNOTATION_PREFIX + "service-links"
_FIELD: Final = ("enableServiceLinks",)
_PROTOCOLS: Final = {"TCP", "UDP", "SCTP"}
_MAX_PORT: Final = 65_535

Links = Mapping[str, Mapping[str, Text]]


def service_links(reader: Reader) -> Links:
    """The variables of each Service that the pod asks for by the annotation SERVICE_LINKS, by the Service's name.

    Whatever else ``enableServiceLinks`` would bring is refused.
    """
    enabled = reader.flag(reader.pod, "enableServiceLinks", ()) is not False
    annotations = reader.workload.pod_metadata.get("annotations")
    asked = annotations.get(SERVICE_LINKS) if isinstance(annotations, dict) else None
    if asked is None:
        if enabled:
            reader.refuse(
                _FIELD,
                "the node would add variables for every Service, in names and values of its own choice",
                "write enableServiceLinks: false; or, if the pod reads such variables, name the Services that may make "
                f"some in the pod template's annotation {SERVICE_LINKS}: every Service of the namespace",
            )
        return {}
    if not enabled:
        reader.refuse(
            _FIELD,
            f"it turns off what the annotation {SERVICE_LINKS} asks for",
            "remove the annotation (recommended), or write enableServiceLinks: true",
        )
        return {}
    links: dict[str, dict[str, Text]] = {}
    makers: dict[str, str] = {}
    for name in dict.fromkeys(part.strip() for part in str(asked).split(",")):
        links[name] = dict(_variables(reader, name))
        for variable in links[name]:
            if (other := makers.setdefault(variable, name)) != name:
                _refuse(reader, f"Services {other} and {name} both make the variable {variable}", "name one of them")
    return links


def _variables(reader: Reader, name: str) -> Iterator[tuple[str, Text]]:
    """The seven forms that the kubelet knows."""
    service = _service(reader, name)
    ports = [] if service is None else service.items("spec", "ports")
    if service is None or not all(_port_ok(reader, service, port) for port in ports):
        return
    if not ports:
        _refuse(reader, f"Service {name} has no ports, so nodes make no variables of it", "take it out")
        return
    given = str(service.get("spec", "clusterIP") or "")
    address = Text.of(given or Hole.SERVICE_IP)
    host = Text.of((f"[{given}]" if ":" in given else given) or Hole.SERVICE_HOST)
    prefix = _variable(name)
    yield f"{prefix}_SERVICE_HOST", address
    yield f"{prefix}_SERVICE_PORT", Text.of(str(ports[0]["port"]))
    for number, port in enumerate(ports):
        protocol, digits = str(port.get("protocol") or "TCP"), str(port["port"])
        url = Text.of(f"{protocol.lower()}://", host, f":{digits}")
        if port.get("name"):
            yield f"{prefix}_SERVICE_PORT_{_variable(str(port['name']))}", Text.of(digits)
        if number == 0:
            yield f"{prefix}_PORT", url
        link = f"{prefix}_PORT_{digits}_{protocol}"
        yield link, url
        yield f"{link}_PROTO", Text.of(protocol.lower())
        yield f"{link}_PORT", Text.of(digits)
        yield f"{link}_ADDR", address


def _service(reader: Reader, name: str) -> Resource | None:
    namespace = reader.workload.namespace
    listed = () if reader.resources is None else reader.resources.services
    found = next((one for one in listed if one.name == name and one.namespace == namespace), None)
    if found is None:
        where = f"namespace {namespace}" if namespace else "the pod's namespace"
        _refuse(
            reader,
            f"Service {name!r} of {where} is in none of the files, so its ports are not known",
            "pass the file that defines it, or take it out",
        )
    elif found.get("spec", "type") == "ExternalName" or found.get("spec", "clusterIP") == "None":
        _refuse(reader, f"nodes make no variables of Service {name}, which has no address of its own", "take it out")
    else:
        return found
    return None


def _port_ok(reader: Reader, service: Resource, port: Mapping[str, object]) -> bool:
    number = port.get("port")
    good = isinstance(number, int) and not isinstance(number, bool) and 0 < number <= _MAX_PORT
    if not good or (port.get("protocol") or "TCP") not in _PROTOCOLS:
        _refuse(reader, f"Service {service.name} has a port {dict(port)!r}", "give it a number and TCP, UDP or SCTP")
        return False
    return True


def _refuse(reader: Reader, reason: str, instead: str) -> None:
    reader.refuse(_FIELD, f"annotation {SERVICE_LINKS}: {reason}", instead)


def _variable(name: str) -> str:
    return name.upper().replace("-", "_")
