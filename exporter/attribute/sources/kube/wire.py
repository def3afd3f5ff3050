"""Decoder for the kubelet's PodResources messages, in the encoding of protocol buffers.

Field numbers are those of k8s.io/kubelet/pkg/apis/podresources/v1/api.proto, to which only new
ones are ever added; unknown fields are skipped. An entry that cannot be decoded (a pod, a
container, a list of devices or of CPUs, a claim) is left out alone and reported; the others count.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias, TypeVar

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
WIDTHS = {FIXED64: 8, FIXED32: 4}
LONGEST_VARINT = 10

T = TypeVar("T")
Value: TypeAlias = int | bytes | None
"""Of a field: a number, a text or message, or None for one of fixed width, which no known has."""


class Claimed(NamedTuple):
    """A device that a container has by dynamic resource allocation."""

    driver: str
    pool: str
    device: str


class ContainerResources(NamedTuple):
    """The devices and CPUs that one container of an active pod was given."""

    namespace: str
    pod: str
    container: str
    """"": given to the pod as a whole."""
    devices: tuple[tuple[str, str], ...] = ()
    """Resource and id of each, as the device plugin calls them."""
    cpus: tuple[int, ...] = ()
    """Those that it has alone."""
    claimed: tuple[Claimed, ...] = ()


def parse_list(data: bytes, skipped: list[str] | None = None) -> list[ContainerResources]:
    """The containers of a ListPodResourcesResponse.

    Adds a reason to `skipped` for each entry that is left out because it cannot be decoded. Raises
    ValueError if the message around them cannot.
    """
    reasons = [] if skipped is None else skipped
    pods = (value for field, value in _fields(data) if field == 1)
    found = _each(pods, "a pod", lambda pod: _pod(pod, reasons), reasons)
    return [container for containers in found for container in containers]


def parse_allocatable(data: bytes, skipped: list[str] | None = None) -> list[tuple[str, str]]:
    """Resource and id of each device of an AllocatableResourcesResponse; errors as above."""
    reasons = [] if skipped is None else skipped
    lists = (value for field, value in _fields(data) if field == 1)
    found = _each(lists, "a list of allocatable devices", _devices, reasons)
    return [device for devices in found for device in devices]


def _each(
    entries: Iterable[Value], what: str, decode: Callable[[Value], T], skipped: list[str]
) -> Iterator[T]:
    """Every entry decoded, without those that cannot be."""
    for entry in entries:
        try:
            yield decode(entry)
        except ValueError as error:
            skipped.append(f"{what}: {error}")


def _pod(data: Value, skipped: list[str]) -> list[ContainerResources]:
    name = namespace = ""
    contents: list[Value] = []
    numbers: list[Value] = []
    for field, value in _fields(data):
        if field == 1:
            name = _text(value)
        elif field == 2:
            namespace = _text(value)
        elif field == 3:
            contents.append(value)
        elif field == 4:
            numbers.append(value)
    where = f"pod {namespace}/{name}"
    found = [
        container._replace(namespace=namespace, pod=name)
        for container in _each(
            contents,
            f"a container of {where}",
            lambda content: _container(content, where, skipped),
            skipped,
        )
    ]
    # Those of the pod as a whole contain those of its containers.
    cpus = _cpus(numbers, where, skipped)
    if shared := set(cpus).difference(*(container.cpus for container in found)):
        found.append(ContainerResources(namespace, name, "", cpus=tuple(sorted(shared))))
    return found


def _container(data: Value, pod: str, skipped: list[str]) -> ContainerResources:
    name = ""
    lists: list[Value] = []
    numbers: list[Value] = []
    claims: list[Value] = []
    for field, value in _fields(data):
        if field == 1:
            name = _text(value)
        elif field == 2:
            lists.append(value)
        elif field == 3:
            numbers.append(value)
        elif field == 5:
            claims.append(value)
    where = f"container {name} of {pod}"
    devices = _each(lists, f"devices of {where}", _devices, skipped)
    what = f"a claim of {where}"
    claimed = _each(claims, what, lambda claim: _claim(claim, what, skipped), skipped)
    return ContainerResources(
        "",
        "",
        name,
        tuple(sorted(device for found in devices for device in found)),
        _cpus(numbers, where, skipped),
        tuple(sorted(device for found in claimed for device in found)),
    )


def _cpus(numbers: Iterable[Value], where: str, skipped: list[str]) -> tuple[int, ...]:
    """Ids of CPUs, ascending, without those of a list that cannot be decoded."""
    found = _each(numbers, f"CPUs of {where}", _numbers, skipped)
    return tuple(sorted(cpu for cpus in found for cpu in cpus))


def _devices(data: Value) -> list[tuple[str, str]]:
    resource = ""
    ids = []
    for field, value in _fields(data):
        if field == 1:
            resource = _text(value)
        elif field == 2:
            ids.append(_text(value))
    return [(resource, device_id) for device_id in ids]


def _claim(data: Value, where: str, skipped: list[str]) -> list[Claimed]:
    """The devices of a DynamicResource."""
    resources = [value for field, value in _fields(data) if field == 4]
    return list(_each(resources, f"a device of {where}", _claimed, skipped))


def _claimed(data: Value) -> Claimed:
    """The device of a ClaimResource."""
    values = {field: _text(value) for field, value in _fields(data) if field in (2, 3, 4)}
    return Claimed(*(values.get(field, "") for field in (2, 3, 4)))


def _fields(message: Value) -> Iterator[tuple[int, Value]]:
    """Number and value of each field."""
    data, at = _bytes(message), 0
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
        yield number, data[at : at + width] if kind == BYTES else None
        at += width


def _numbers(value: Value) -> list[int]:
    """A repeated number, packed or one by one."""
    if isinstance(value, int):
        return [value]
    data, values, at = _bytes(value), [], 0
    while at < len(data):
        number, at = _varint(data, at)
        values.append(number)
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
    raise ValueError("a number is longer than 10 bytes")


def _bytes(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number where a text or a message is expected")  # noqa: TRY004  of the content
    return value


def _text(value: Value) -> str:
    return _bytes(value).decode("utf-8", "replace")
