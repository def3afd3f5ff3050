"""A kubelet's PodResources socket, in this process.

Every message is made with the published definition, podresources/api.proto beside this file, which
protoc compiles here; no field number is written by hand.
"""

import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc

DEFINITION = Path(__file__).parent / "podresources" / "api.proto"


def _compiled() -> Any:
    """The definition's FileDescriptor, in a pool of its own."""
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory, "made")
        flags = [f"-I{DEFINITION.parent}", f"--descriptor_set_out={made}", DEFINITION.name]
        if protoc.main(["protoc", *flags]):
            raise RuntimeError(f"protoc fails on {DEFINITION}")
        (file,) = descriptor_pb2.FileDescriptorSet.FromString(made.read_bytes()).file
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool.FindFileByName(DEFINITION.name)


_FILE = _compiled()
SERVICE = _FILE.services_by_name["PodResourcesLister"].full_name


def message(name: str) -> Any:
    """The class of a message of the definition."""
    return message_factory.GetMessageClass(_FILE.message_types_by_name[name])


PodResources, ContainerResources = message("PodResources"), message("ContainerResources")
ContainerDevices, DynamicResource = message("ContainerDevices"), message("DynamicResource")
ListPodResourcesResponse = message("ListPodResourcesResponse")
AllocatableResourcesResponse = message("AllocatableResourcesResponse")


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, value: int | str | bytes) -> bytes:
    """One field as bytes, for messages that no definition allows."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def inside(holder: Any, name: str, content: bytes) -> bytes:
    """Content, which may be spoilt, as the field of that name of a message."""
    return field(holder.DESCRIPTOR.fields_by_name[name].number, content)


def devices(resource: str, ids: Iterable[str]) -> Any:
    """A ContainerDevices message, with the topology that a plugin may tell."""
    topology = {"nodes": [{"ID": 1}]}
    return ContainerDevices(resource_name=resource, device_ids=list(ids), topology=topology)


def claim(*claimed: tuple[str, str, str], name: str = "claim", namespace: str = "default") -> Any:
    """A DynamicResource message with these devices, each by driver, pool and name."""
    resources = [
        {
            "cdi_devices": [{"name": f"k8s.{driver}/claim=1-{device}"}],
            "driver_name": driver,
            "pool_name": pool,
            "device_name": device,
        }
        for driver, pool, device in claimed
    ]
    return DynamicResource(claim_name=name, claim_namespace=namespace, claim_resources=resources)


def container(
    name: str,
    given: Mapping[str, Sequence[str]] | None = None,
    cpus: Iterable[int] = (),
    claims: Iterable[tuple[str, str, str]] = (),
) -> bytes:
    """A ContainerResources message; `given` are ids by resource."""
    made = ContainerResources(
        name=name,
        devices=[devices(resource, ids) for resource, ids in (given or {}).items()],
        cpu_ids=cpus,
        memory=[{"memory_type": "memory", "size": 1 << 30}],
        dynamic_resources=[claim(each) for each in claims],
    )
    # A field that some later kubelet has.
    return bytes(made.SerializeToString()) + field(99, "new")


def pod(namespace: str, name: str, *containers: bytes) -> bytes:
    """A PodResources message."""
    made = PodResources(name=name, namespace=namespace)
    inner = (inside(PodResources, "containers", each) for each in containers)
    return bytes(made.SerializeToString()) + b"".join(inner)


def listed(*pods: bytes) -> bytes:
    """A ListPodResourcesResponse message."""
    return b"".join(inside(ListPodResourcesResponse, "pod_resources", each) for each in pods)


class FakeKubelet:
    """Answers with `pods` and `allocatable`; fails with `code`, waits while `go` is not set."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pods: list[bytes] = []
        self.allocatable: dict[str, Sequence[str]] = {}
        self.code: Any = None
        self.details = "as the test wants it"
        self.junk: bytes | None = None
        self.asked = 0
        self.go = threading.Event()
        self.go.set()
        self._server: Any = None

    def start(self) -> "FakeKubelet":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._server = grpc.server(ThreadPoolExecutor(2))
        answers = {
            "List": self._list,
            "GetAllocatableResources": self._allocatable,
            "Get": self._get,
        }
        methods = {
            method.name: grpc.unary_unary_rpc_method_handler(
                answers[method.name], message(method.input_type.name).FromString
            )
            for method in _FILE.services_by_name["PodResourcesLister"].methods
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

    def _list(self, _: Any, context: Any) -> bytes:
        self.asked += 1
        self.go.wait(30)
        if self.code is not None:
            context.abort(self.code, self.details)
        return listed(*self.pods) if self.junk is None else self.junk

    def _allocatable(self, _: Any, context: Any) -> bytes:
        given = [devices(resource, ids) for resource, ids in self.allocatable.items()]
        return bytes(AllocatableResourcesResponse(devices=given).SerializeToString())

    def _get(self, request: Any, context: Any) -> bytes:
        for each in self.pods:
            named = PodResources.FromString(each)
            if (named.namespace, named.name) == (request.pod_namespace, request.pod_name):
                answer = message("GetPodResourcesResponse")(pod_resources=named)
                return bytes(answer.SerializeToString())
        context.abort(grpc.StatusCode.UNKNOWN, "pod not found")
        return b""
