"""Answers of the kubelet and of the API server."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from h2.exceptions import H2Error

from exporter.attribute.sources.kube import api_server, pod_metadata
from exporter.attribute.sources.kube.api_server import ApiError, ApiServerClient
from exporter.attribute.sources.kube.grpc_client import _Call
from exporter.attribute.sources.kube.pod_resources import parse_allocatable, parse_pod_resources
from exporter.attribute.sources.kube.pod_watch import PodWatch
from exporter.errors import SourceError
from exporter.worker import deadline
from tests.fuzz.inputs import AnsweredConnection, ReplaySocket, StillClock, file_with
from tests.fuzz.mutation import SEPARATOR

NODE = "node-1"
METHOD = "/v1.PodResourcesLister/List"


def pod_resources(data: bytes) -> None:
    """The kubelet's list of devices and CPUs of containers."""
    with suppress(ValueError):
        sorted(parse_pod_resources(data))


def allocatable_resources(data: bytes) -> None:
    """The kubelet's list of all devices."""
    with suppress(ValueError):
        sorted(parse_allocatable(data))


def grpc_answer(data: bytes) -> None:
    """Bytes of HTTP/2 that a server answers, in one piece and byte by byte."""
    for piece in (1 << 16, 1 + len(data) // 3):
        with suppress(SourceError, H2Error, OSError):
            connection: Any = ReplaySocket(data, piece)
            _Call(connection, deadline(5.0)).answer(METHOD, 5.0)


class _Server:
    """An API server whose answers are the parts of an input, in turn."""

    def __init__(self, data: bytes) -> None:
        self._parts = iter(data.split(SEPARATOR))

    def get(self, _path: str, **_query: str) -> dict[str, Any]:
        part = next(self._parts, None)
        if part is None:
            raise ApiError(404, "not found")
        return api_server._document(part)

    def watch(self, _path: str, _seconds: int, **_query: str) -> Iterator[dict[str, Any]]:
        for part in self._parts:
            for line in part.splitlines(keepends=True):
                yield api_server._document(line)

    def interrupt(self) -> None:
        pass


def pod_watch(data: bytes) -> None:
    """A list of pods, resource slices, claims, then the lines of a watch."""
    server: Any = _Server(data)
    worker: Any = lambda *_: None  # noqa: E731
    watch = PodWatch(server, NODE, StillClock(), ("team",), worker)
    watch._list_and_watch()
    state = watch.latest
    json.dumps([pod._asdict() for pod in state.pods.values()]).encode()
    hash(frozenset(state.gpus.items()))


def resource_slices(data: bytes) -> None:
    """Resource slices and claims of dynamic resource allocation."""
    with suppress(ApiError):
        items = pod_metadata.objects_at(api_server._document(data), "items")
        dict(pod_metadata.claimable_gpus(items))
        dict(pod_metadata.claimable_mig_devices(items))
        pod_metadata.admin_devices(items)


def api_server_answer(data: bytes) -> None:
    """The HTTP answer to a request, and the backoff after an error."""
    client = object.__new__(ApiServerClient)
    client._host, client._port = "api", 443
    client._token = file_with(b"token", "token")
    connection: Any = AnsweredConnection(data)
    try:
        api_server._document(api_server._read(client._answer(connection, "/api/v1/pods", {})))
    except ApiError as error:
        worker: Any = lambda *_: None  # noqa: E731
        PodWatch(client, NODE, StillClock(), (), worker)._record_error(error)


TARGETS = (
    pod_resources,
    allocatable_resources,
    grpc_answer,
    pod_watch,
    resource_slices,
    api_server_answer,
)
