"""A kubelet's PodResources socket, in this process, with the published field numbers."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

SERVICE = "v1.PodResourcesLister"


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, value: int | str | bytes) -> bytes:
    """One field; texts and messages are length-delimited."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def container(
    name: str,
    devices: Mapping[str, Sequence[str]] | None = None,
    cpus: Iterable[int] = (),
    claims: Iterable[tuple[str, str, str]] = (),
) -> bytes:
    """A ContainerResources message; `devices` are ids by resource."""
    message = field(1, name)
    for resource, ids in (devices or {}).items():
        listed = field(1, resource) + b"".join(field(2, each) for each in ids)
        message += field(2, listed)
    packed = b"".join(map(varint, cpus))
    if packed:
        message += field(3, packed)
    for driver, pool, device in claims:
        claim = field(2, driver) + field(3, pool) + field(4, device)
        message += field(5, field(1, "claim") + field(2, "default") + field(3, claim))
    # A field that some later kubelet has.
    return message + field(99, "new")


def pod(namespace: str, name: str, *containers: bytes) -> bytes:
    """A PodResources message."""
    return field(1, name) + field(2, namespace) + b"".join(field(3, each) for each in containers)


class FakeKubelet:
    """Answers with `pods` and `allocatable`; fails with `code`, waits while `go` is not set."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pods: list[bytes] = []
        self.allocatable: dict[str, Sequence[str]] = {}
        self.code: Any = None
        self.junk: bytes | None = None
        self.asked = 0
        self.go = threading.Event()
        self.go.set()
        self._server: Any = None

    def start(self) -> "FakeKubelet":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._server = grpc.server(ThreadPoolExecutor(2))
        methods = {
            "List": grpc.unary_unary_rpc_method_handler(self._list),
            "GetAllocatableResources": grpc.unary_unary_rpc_method_handler(self._allocatable),
        }
        handler = grpc.method_handlers_generic_handler(SERVICE, methods)
        self._server.add_generic_rpc_handlers((handler,))
        self._server.add_insecure_port(f"unix:{self.path}")
        self._server.start()
        return self

    def stop(self) -> None:
        """As a kubelet that ends: its socket is gone."""
        self._server.stop(0).wait()
        self.path.unlink(missing_ok=True)

    def _list(self, _: bytes, context: Any) -> bytes:
        self.asked += 1
        self.go.wait(30)
        if self.code is not None:
            context.abort(self.code, "as the test wants it")
        if self.junk is not None:
            return self.junk
        return b"".join(field(1, each) for each in self.pods)

    def _allocatable(self, _: bytes, context: Any) -> bytes:
        message = b""
        for resource, ids in self.allocatable.items():
            message += field(1, field(1, resource) + b"".join(field(2, each) for each in ids))
        return message
