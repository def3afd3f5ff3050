"""Which container has which device, as the kubelet's PodResources socket tells it."""

import logging
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from exporter.attribute.sources.kube.wire import ContainerResources, parse_allocatable, parse_list
from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.worker import Worker

log = logging.getLogger(__name__)

SERVICE = "/v1.PodResourcesLister/"
POLL_SECONDS = 5.0
CALL_SECONDS = 5.0
ALLOCATABLE_POLLS = 12
"""Polls between two questions for all devices that there are, unless it gave out others."""
MOST_BYTES = 64 << 20
OPTIONS = (
    # A kubelet that restarts is found again soon, and not after two minutes.
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.max_receive_message_length", MOST_BYTES),
    ("grpc.enable_http_proxy", 0),
)
ABSENT = "no kubelet has answered since the start; where there is none, this is no failure"
REMEDY = "mount its directory into the exporter, and let it read there as root"


class Allotted(NamedTuple):
    """What the kubelet said last."""

    containers: tuple[ContainerResources, ...] = ()
    replicas: tuple[tuple[str, str], ...] = ()
    """Resource and id of every device that can be handed out."""
    at_ns: int = 0
    """CLOCK_BOOTTIME; 0: it has said nothing yet."""
    why: str = "the kubelet has not answered yet"
    """Why there is nothing newer; "": all is well."""
    skipped: tuple[str, ...] = ()
    """Why entries of the last answer were left out; the others count."""
    asked_ns: int = 0
    """CLOCK_BOOTTIME of when it was asked for this; a pod that began later may be missing."""


class Kubelet:
    """Asks every few seconds, in a thread of its own, since it may hang.

    Raises Unavailable where there is no directory of its socket, or no grpcio. Where no kubelet is
    expected, there may be none: uninstalled, it leaves its directory or its socket behind.
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
            raise Unavailable(f"there is no {os.path.dirname(path)}")
        try:
            import grpc  # 20 MB that only nodes of Kubernetes need
        except ImportError:
            raise Unavailable(
                "grpcio is missing; pip install emissions-exporter[kubernetes]"
            ) from None
        self._grpc: Any = grpc
        self._path = path
        self._clock = clock
        self._channel: Any = None
        self._is_expected = is_expected
        self._is_stopping = False
        self._polls = 0
        self._skipped_replicas: list[str] = []
        self.allotted = Allotted()
        """The last answer; replaced as a whole."""
        self._worker = worker("kubelet", self._poll, POLL_SECONDS)

    def start(self) -> None:
        """Begin to ask."""
        self._worker.start()

    def poke(self) -> None:
        """Ask now: a pod is new, and what it was given is its own from the first moment."""
        self._worker.poke()

    def stop(self, timeout_seconds: float) -> bool:
        """Stop; False if it hangs."""
        self._is_stopping = True
        self._close()
        return self._worker.stop(timeout_seconds)

    def _poll(self) -> None:
        """Ask once; what was known stays where there is no answer."""
        if self._is_stopping:
            return
        try:
            skipped: list[str] = []
            asked_ns = self._clock.boottime_ns()
            # It lists them in any order.
            containers = tuple(sorted(self._ask("List", parse_list, skipped)))
            replicas = self.allotted.replicas
            is_new = containers != self.allotted.containers
            if self._polls % ALLOCATABLE_POLLS == 0 or not replicas or is_new:
                replicas = self._replicas(replicas)
        except (self._grpc.RpcError, ValueError) as error:
            self.allotted = self.allotted._replace(why=self._explained(error))
            self._close()
            return
        self._polls += 1
        known = self.allotted
        skipped += self._skipped_replicas
        if skipped and known.skipped != tuple(skipped):
            log.warning(
                "entries of the kubelet's answer cannot be decoded and are left out: count=%d "
                "first=%r",
                len(skipped),
                skipped[0],
            )
        self.allotted = Allotted(
            # The same object as long as nothing changed, for who looks every second.
            known.containers if known.containers == containers else containers,
            known.replicas if known.replicas == replicas else replicas,
            self._clock.boottime_ns(),
            "",
            tuple(skipped),
            asked_ns,
        )

    def _replicas(self, known: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """All devices; an older kubelet does not tell."""
        skipped: list[str] = []
        with suppress(self._grpc.RpcError, ValueError):
            known = tuple(sorted(self._ask("GetAllocatableResources", parse_allocatable, skipped)))
        self._skipped_replicas = skipped
        return known

    def _ask(
        self,
        method: str,
        parse: Callable[[bytes, list[str]], Sequence[Any]],
        skipped: list[str],
    ) -> Sequence[Any]:
        channel = self._channel  # which another thread may close
        if channel is None:
            path = f"unix:{self._path}"
            channel = self._channel = self._grpc.insecure_channel(path, options=OPTIONS)
        call = channel.unary_unary(SERVICE + method, response_deserializer=bytes)
        return parse(call(b"", timeout=CALL_SECONDS), skipped)

    def _explained(self, error: Exception) -> str:
        if not isinstance(error, self._grpc.RpcError):
            return f"{self._path}: the kubelet's answer makes no sense: {error}"
        code = error.code().name.lower().replace("_", " ")
        if not self._is_expected and not self.allotted.at_ns and not is_listened_on(self._path):
            return ABSENT
        if not os.path.exists(self._path):
            return f"{self._path} is not there; is the kubelet running? If so, {REMEDY}"
        return f"{self._path}: the kubelet does not answer: {code}; {REMEDY}"

    def _close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()


def is_listened_on(path: str) -> bool:
    """Whether somebody listens on a socket, or nobody can tell."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(CALL_SECONDS)
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            pass
    return True
