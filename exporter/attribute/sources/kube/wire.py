"""The few messages of the kubelet that are read, in the encoding of protocol buffers.

Field numbers are those of k8s.io/kubelet/pkg/apis/podresources/v1/api.proto, which only ever gets
new ones; what is not known here is skipped.
"""

from collections.abc import Iterator
from typing import NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
WIDTHS = {FIXED64: 8, FIXED32: 4}
LONGEST_VARINT = 10


class Claimed(NamedTuple):
    """A device that a container has by dynamic resource allocation."""

    driver: str
    pool: str
    device: str


class ContainerResources(NamedTuple):
    """What one container of an active pod was given."""

    namespace: str
    pod: str
    container: str
    devices: tuple[tuple[str, str], ...] = ()
    """Resource and id of each, as the device plugin calls them."""
    cpus: tuple[int, ...] = ()
    """Those that it has alone."""
    claimed: tuple[Claimed, ...] = ()


def parse_list(data: bytes) -> list[ContainerResources]:
    """The containers of a ListPodResourcesResponse. Raises ValueError."""
    return [found for field, pod in _messages(data) if field == 1 for found in _pod(pod)]


def parse_allocatable(data: bytes) -> list[tuple[str, str]]:
    """Resource and id of each device of an AllocatableResourcesResponse. Raises ValueError."""
    return [
        found for field, devices in _messages(data) if field == 1 for found in _devices(devices)
    ]


def _pod(data: bytes) -> Iterator[ContainerResources]:
    name = namespace = ""
    containers = []
    for field, value in _fields(data):
        if field == 1:
            name = _text(value)
        elif field == 2:
            namespace = _text(value)
        elif field == 3:
            containers.append(_bytes(value))
    for content in containers:
        yield _container(content)._replace(pod=name, namespace=namespace)


def _container(data: bytes) -> ContainerResources:
    name = ""
    devices: list[tuple[str, str]] = []
    cpus: list[int] = []
    claimed: list[Claimed] = []
    for field, value in _fields(data):
        if field == 1:
            name = _text(value)
        elif field == 2:
            devices += _devices(_bytes(value))
        elif field == 3:
            cpus += [value] if isinstance(value, int) else _packed(value)
        elif field == 5:
            claimed += _claims(_bytes(value))
    return ContainerResources(
        "", "", name, tuple(sorted(devices)), tuple(sorted(cpus)), tuple(sorted(claimed))
    )


def _devices(data: bytes) -> list[tuple[str, str]]:
    resource = ""
    ids = []
    for field, value in _fields(data):
        if field == 1:
            resource = _text(value)
        elif field == 2:
            ids.append(_text(value))
    return [(resource, device_id) for device_id in ids]


def _claims(data: bytes) -> Iterator[Claimed]:
    for field, claim in _messages(data):
        if field == 3:
            values = {number: value for number, value in _fields(claim) if number in (2, 3, 4)}
            yield Claimed(*(_text(values.get(number, b"")) for number in (2, 3, 4)))


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    for field, value in _fields(data):
        if isinstance(value, bytes):
            yield field, value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == BYTES:
            width, at = _varint(data, at)
        elif kind in WIDTHS:
            width = WIDTHS[kind]
        else:
            raise ValueError(f"field {number} has the unknown wire type {kind}")
        if at + width > len(data):
            raise ValueError(f"field {number} ends beyond the message")
        yield number, data[at : at + width]
        at += width


def _packed(data: bytes) -> list[int]:
    values, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        values.append(value)
    return values


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(LONGEST_VARINT):
        if at >= len(data):
            raise ValueError("a number ends beyond the message")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * place)
        if not byte & 0x80:
            return value, at
    raise ValueError("a number is longer than any")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number stands where a text is expected")  # noqa: TRY004  of the content
    return value


def _text(value: int | bytes) -> str:
    return _bytes(value).decode("utf-8", "replace")
