"""The Kubernetes sources of this node, kubelet and API server, and their combined state."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from exporter.attribute.sources.kube.pod_devices import NO_API_SERVER_STATE, NO_POD_RESOURCES
from exporter.attribute.sources.kube.pod_metadata import PodMetadata
from exporter.attribute.sources.kube.pod_resources import NO_KUBELET, KubeletClient, has_listener
from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.model.workload import CollectorState
from exporter.units import NANOSECONDS_PER_SECOND

if TYPE_CHECKING:
    from exporter.attribute.sources.kube.pod_watch import PodWatch


NOT_IN_POD = (
    "not running in a pod, so the API server is not used: pods are identified by their uid, and by "
    "namespace and name if the kubelet or its log directories have them"
)


class KubernetesSources(NamedTuple):
    """The opened sources; None for one that is missing, with its state in `missing`."""

    kubelet: KubeletClient | None
    watch: "PodWatch | None"
    missing: tuple[CollectorState, ...]


def open_kubernetes(
    *,
    kubelet_socket: str,
    node_name: str,
    environment: Mapping[str, str],
    exported_labels: Iterable[str],
    clock: Clock,
    service_account: str,
) -> KubernetesSources:
    """Open the sources of pod metadata of a node of Kubernetes.

    Without a `service_account`, or outside of a pod, the API server is not used; this is not a
    failure.
    """
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    # Imported late: TLS and HTTP cost 40 ms and 2 MB, which other nodes should not pay.
    from exporter.attribute.sources.kube.api_server import ApiServerClient
    from exporter.attribute.sources.kube.pod_watch import PodWatch

    missing = []
    kubelet = watch = None
    try:
        kubelet = KubeletClient(kubelet_socket, clock, is_expected=bool(host))
    except Unavailable as error:
        is_absent = not host and not has_listener(kubelet_socket)
        why = NO_KUBELET if is_absent else str(error)
        missing.append(CollectorState("kubelet", is_absent, 0.0, why))
    if service_account and not host:
        missing.append(CollectorState("pods", True, 0.0, NOT_IN_POD))
    elif service_account:
        try:
            port = environment.get("KUBERNETES_SERVICE_PORT", "")
            server = ApiServerClient(host, port, service_account)
            watch = PodWatch(server, node_name, clock, exported_labels)
        except Unavailable as error:
            missing.append(CollectorState("pods", False, 0.0, str(error)))
    return KubernetesSources(kubelet, watch, tuple(missing))


PENDING_ERRORS = {NO_POD_RESOURCES.why, NO_API_SERVER_STATE.why}
"""States before the first answer, which are not failures."""
BENIGN_ERRORS = {"", NO_KUBELET, *PENDING_ERRORS}
WRONG_NODE_NAME = (
    "the API server has no pod on this node; set attribute.node_name with fieldRef spec.nodeName "
    "in EMISSIONS_EXPORTER_ATTRIBUTE_NODE_NAME of the DaemonSet's container"
)


NO_PODS: Mapping[str, PodMetadata] = MappingProxyType({})


class _ListedPods(NamedTuple):
    """Namespace and name of the pods in the kubelet's list."""

    listed: frozenset[tuple[str, str]] = frozenset()
    with_devices: frozenset[tuple[str, str]] = frozenset()


class KubernetesState:
    """The last answers of the kubelet and the API server, as far as they could be opened."""

    def __init__(self, sources: KubernetesSources, clock: Clock) -> None:
        self._kubelet, self._watch, self._missing = sources
        self._clock = clock
        self._held: tuple[object, _ListedPods] = (None, _ListedPods())

    def pods(self) -> Mapping[str, PodMetadata]:
        """Pods by uid, as described by the API server; the same object while unchanged."""
        return self._watch.latest.pods if self._watch is not None else NO_PODS

    def holders(self) -> "_ListedPods":
        """Pods as listed by the kubelet; the same object while unchanged."""
        containers = self._kubelet.latest.containers if self._kubelet is not None else ()
        if containers is not self._held[0]:
            self._held = (
                containers,
                _ListedPods(
                    frozenset((each.namespace, each.pod) for each in containers),
                    frozenset(
                        (each.namespace, each.pod)
                        for each in containers
                        if each.devices or each.claimed
                    ),
                ),
            )
        return self._held[1]

    def requested_ns(self) -> int:
        """Time of the request for the kubelet's last list; 0: no answer yet."""
        return self._kubelet.latest.requested_ns if self._kubelet is not None else 0

    def may_list_pod(self, since_ns: int) -> bool:
        """Whether the kubelet may soon list a pod that was first seen at `since_ns`."""
        if self._kubelet is None:
            return False
        latest = self._kubelet.latest
        is_outdated = not latest.why and 0 < latest.requested_ns < since_ns
        return is_outdated or latest.why == NO_POD_RESOURCES.why

    def has_api_server(self) -> bool:
        """Whether an API server may describe pods, now or later."""
        return self._watch is not None

    def is_complete(self) -> bool:
        """Whether the API server's list is current, so a pod without a name is new or has ended."""
        return self._watch is not None and not self._watch.latest.why

    def has_answered(self) -> bool:
        """Whether kubelet and API server have answered, or failed to."""
        errors = [self._kubelet.latest.why] if self._kubelet is not None else []
        errors += [self._watch.latest.why] if self._watch is not None else []
        return not PENDING_ERRORS.intersection(errors)

    def may_describe_pod(self) -> bool:
        """Whether the API server may soon describe a new pod."""
        return self._watch is not None and self._watch.latest.why in ("", NO_API_SERVER_STATE.why)

    def poll_now(self) -> None:
        """Poll the kubelet immediately."""
        if self._kubelet is not None:
            self._kubelet.wake()

    def states(
        self, *, has_pods: bool, has_claims: bool, devices_note: str = ""
    ) -> tuple[CollectorState, ...]:
        """States of the sources; after an error the last answer stays in use, with its age shown.

        `has_pods`: whether this node has pods. `has_claims`: whether one of them has a device by
        dynamic resource allocation. `devices_note`: a possible problem with the devices of pods.
        """
        now_ns = self._clock.boottime_ns()
        states = list(self._missing)
        if self._kubelet is not None:
            latest = self._kubelet.latest
            state = _state("kubelet", latest.at_ns, latest.why, now_ns=now_ns)
            if not state.why and latest.skipped:
                state = state._replace(ok=False, why=_skipped(latest.skipped))
            elif not state.why:
                state = state._replace(why=devices_note)
            states.append(state)
        if self._watch is not None:
            known = self._watch.latest
            state = _state("pods", known.at_ns, known.why, now_ns=now_ns)
            if not state.why and has_pods and not known.pods:
                state = state._replace(ok=False, why=WRONG_NODE_NAME)
            elif not state.why and has_claims:
                state = state._replace(why=known.gpus_reason)
            states.append(state)
        return tuple(states)


def _skipped(reasons: Sequence[str]) -> str:
    return (
        f"the kubelet's answer cannot be decoded in {len(reasons)} places, which are ignored; the "
        f"first: {reasons[0]}; report this with the version of the kubelet"
    )


def _state(name: str, at_ns: int, why: str, *, now_ns: int) -> CollectorState:
    age_seconds = (now_ns - at_ns) / NANOSECONDS_PER_SECOND if at_ns else 0.0
    text = f"{why}; its answer of {age_seconds:.0f} s ago is still used" if why and at_ns else why
    return CollectorState(name, why in BENIGN_ERRORS, 0.0, text)
