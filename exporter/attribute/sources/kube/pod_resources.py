"""A client of the kubelet's PodResources API: devices and exclusive CPUs of containers."""

import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias, TypeVar

from exporter.clock import Clock
from exporter.errors import SourceError, Unavailable
from exporter.worker import Worker

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
WIDTHS = {FIXED64: 8, FIXED32: 4}
MAX_VARINT_BYTES = 10

T = TypeVar("T")
Value: TypeAlias = int | bytes | None
"""Value of a protobuf field: a number, bytes (text or message), or None for a fixed-width field,
which no known message has."""


class ClaimedDevice(NamedTuple):
    """A device allocated to a container by dynamic resource allocation."""

    driver: str
    pool: str
    device: str


class ContainerResources(NamedTuple):
    """Devices and CPUs allocated to one container of an active pod."""

    namespace: str
    pod: str
    container: str
    """Name; "": allocated to the pod as a whole."""
    devices: tuple[tuple[str, str], ...] = ()
    """Resource and device id of each, as named by the device plugin."""
    cpus: tuple[int, ...] = ()
    """Exclusive CPUs."""
    claimed: tuple[ClaimedDevice, ...] = ()


def parse_pod_resources(data: bytes, skipped: list[str] | None = None) -> list[ContainerResources]:
    """Decode the containers of a ListPodResourcesResponse.

    Entries that cannot be decoded are skipped, and their errors appended to `skipped`. Raises
    ValueError if the message itself cannot be decoded.
    """
    reasons = [] if skipped is None else skipped
    pods = (value for field, value in _fields(data) if field == 1)
    found = _decode_each(pods, "a pod", lambda pod: _pod(pod, reasons), reasons)
    return [container for containers in found for container in containers]


def parse_allocatable(data: bytes, skipped: list[str] | None = None) -> list[tuple[str, str]]:
    """Decode resource and device id of each device of an AllocatableResourcesResponse.

    Errors are handled as in `parse_pod_resources`.
    """
    reasons = [] if skipped is None else skipped
    lists = (value for field, value in _fields(data) if field == 1)
    found = _decode_each(lists, "a list of allocatable devices", _devices, reasons)
    return [device for devices in found for device in devices]


def _decode_each(
    entries: Iterable[Value], what: str, decode: Callable[[Value], T], skipped: list[str]
) -> Iterator[T]:
    """Decode entries, skipping those that cannot be decoded."""
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
        for container in _decode_each(
            contents,
            f"a container of {where}",
            lambda content: _container(content, where, skipped),
            skipped,
        )
    ]
    # The CPUs of the pod include those of its containers.
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
    devices = _decode_each(lists, f"devices of {where}", _devices, skipped)
    what = f"a claim of {where}"
    claimed = _decode_each(claims, what, lambda claim: _claim(claim, what, skipped), skipped)
    return ContainerResources(
        "",
        "",
        name,
        tuple(sorted(device for found in devices for device in found)),
        _cpus(numbers, where, skipped),
        tuple(sorted(device for found in claimed for device in found)),
    )


def _cpus(numbers: Iterable[Value], where: str, skipped: list[str]) -> tuple[int, ...]:
    """Ids of CPUs, ascending; lists that cannot be decoded are skipped."""
    found = _decode_each(numbers, f"CPUs of {where}", _numbers, skipped)
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


def _claim(data: Value, where: str, skipped: list[str]) -> list[ClaimedDevice]:
    """The devices of a DynamicResource."""
    resources = [value for field, value in _fields(data) if field == 4]
    return list(_decode_each(resources, f"a device of {where}", _claimed, skipped))


def _claimed(data: Value) -> ClaimedDevice:
    """The device of a ClaimResource."""
    values = {field: _text(value) for field, value in _fields(data) if field in (2, 3, 4)}
    return ClaimedDevice(*(values.get(field, "") for field in (2, 3, 4)))


def _fields(message: Value) -> Iterator[tuple[int, Value]]:
    """Decode the fields of a message: field number and value."""
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
            raise ValueError(f"field {number} has unknown wire type {kind}")
        if at + width > len(data):
            raise ValueError(f"field {number} ends beyond the message")
        yield number, data[at : at + width] if kind == BYTES else None
        at += width


def _numbers(value: Value) -> list[int]:
    """Decode a repeated number, packed or not."""
    if isinstance(value, int):
        return [value]
    data, values, at = _bytes(value), [], 0
    while at < len(data):
        number, at = _varint(data, at)
        values.append(number)
    return values


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(MAX_VARINT_BYTES):
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


log = logging.getLogger(__name__)

SERVICE = "/v1.PodResourcesLister/"
POLL_SECONDS = 5.0
CALL_SECONDS = 5.0
ALLOCATABLE_POLLS = 12
"""Polls between requests for all allocatable devices, unless the allocations have changed."""
NO_KUBELET = "no kubelet has answered since the start; not a failure on a node without a kubelet"
REMEDY = "mount its directory into the exporter, and run the exporter as root"


class PodResources(NamedTuple):
    """The last answer of the kubelet."""

    containers: tuple[ContainerResources, ...] = ()
    replicas: tuple[tuple[str, str], ...] = ()
    """Resource and device id of every allocatable device."""
    at_ns: int = 0
    """Time of the answer, CLOCK_BOOTTIME; 0: no answer yet."""
    why: str = "the kubelet has not answered yet"
    """Why there is no newer answer; "": no error."""
    skipped: tuple[str, ...] = ()
    """Errors of the entries that were skipped in the last answer."""
    requested_ns: int = 0
    """Time of the request, CLOCK_BOOTTIME; a pod that started later may be missing."""


class KubeletClient:
    """Polls the kubelet every few seconds, in its own thread, since a call may hang.

    Raises Unavailable if the directory of the socket does not exist, or h2 is not installed.
    If not `is_expected`, the lack of a kubelet is not an error: an uninstalled kubelet leaves its
    directory or its socket behind.
    """

    def __init__(
        self,
        path: str,
        clock: Clock,
        worker: Callable[[str, Callable[[], None], float], Worker] = Worker,
        *,
        is_expected: bool = True,
    ) -> None:
        if not os.path.isdir(os.path.dirname(path)):
            raise Unavailable(f"{os.path.dirname(path)} does not exist")
        try:
            # 5 MB that only nodes of Kubernetes need.
            from exporter.attribute.sources.kube.grpc_client import GrpcClient
        except ImportError:
            raise Unavailable(
                "h2 is missing; install it with: pip install emissions-exporter[kubernetes]"
            ) from None
        self._client = GrpcClient(path)
        self._path = path
        self._clock = clock
        self._is_expected = is_expected
        self._polls = 0
        self._skipped_replicas: list[str] = []
        self.latest = PodResources()
        """The last answer; replaced as a whole."""
        self._worker = worker("kubelet", self._poll, POLL_SECONDS)

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def wake(self) -> None:
        """Poll now, for a new pod, which holds its devices from its start."""
        self._worker.wake()

    def stop(self, timeout_seconds: float) -> bool:
        """Stop the thread; False if it hangs."""
        self._client.close()
        return self._worker.stop(timeout_seconds)

    def _poll(self) -> None:
        """Poll once; after an error the last answer is kept."""
        try:
            skipped: list[str] = []
            requested_ns = self._clock.boottime_ns()
            # The kubelet lists them in any order.
            containers = tuple(sorted(self._call("List", parse_pod_resources, skipped)))
            replicas = self.latest.replicas
            is_new = containers != self.latest.containers
            if self._polls % ALLOCATABLE_POLLS == 0 or not replicas or is_new:
                replicas = self._replicas(replicas)
        except (SourceError, ValueError) as error:
            self.latest = self.latest._replace(why=self._error_text(error))
            return
        self._polls += 1
        known = self.latest
        skipped += self._skipped_replicas
        if skipped and known.skipped != tuple(skipped):
            log.warning(
                "entries of the kubelet's answer cannot be decoded and are ignored",
                extra={"count": len(skipped), "first": skipped[0]},
            )
        self.latest = PodResources(
            # Keep the same object while unchanged: callers compare by identity every second.
            known.containers if known.containers == containers else containers,
            known.replicas if known.replicas == replicas else replicas,
            self._clock.boottime_ns(),
            "",
            tuple(skipped),
            requested_ns,
        )

    def _replicas(self, known: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """All allocatable devices; older kubelets do not support the request."""
        skipped: list[str] = []
        with suppress(SourceError, ValueError):
            known = tuple(sorted(self._call("GetAllocatableResources", parse_allocatable, skipped)))
        self._skipped_replicas = skipped
        return known

    def _call(
        self,
        method: str,
        parse: Callable[[bytes, list[str]], Sequence[Any]],
        skipped: list[str],
    ) -> Sequence[Any]:
        return parse(self._client.call(SERVICE + method, CALL_SECONDS), skipped)

    def _error_text(self, error: Exception) -> str:
        if not isinstance(error, SourceError):
            return f"{self._path}: the kubelet's answer cannot be decoded: {error}"
        if not self._is_expected and not self.latest.at_ns and not has_listener(self._path):
            return NO_KUBELET
        if not os.path.exists(self._path):
            return f"{self._path} does not exist; is the kubelet running? If so, {REMEDY}"
        return f"{self._path}: the kubelet does not answer: {error}; {REMEDY}"


def has_listener(path: str) -> bool:
    """Whether a process listens on a UNIX socket; True if that cannot be determined."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(CALL_SECONDS)
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            pass
    return True
