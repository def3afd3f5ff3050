"""What the kubelet and the API server tell of the pods here, and how the two fare."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from exporter.attribute.sources.kube.kubelet import ABSENT
from exporter.attribute.sources.kube.pod_devices import SILENT_KUBELET, SILENT_SERVER
from exporter.attribute.sources.kube.pod_facts import PodFacts
from exporter.attribute.sources.kube.registry import KubernetesSources
from exporter.clock import Clock
from exporter.model.workload import CollectorState
from exporter.units import NANOSECONDS_PER_SECOND

FIRST_WORDS = {SILENT_KUBELET.why, SILENT_SERVER.why}
"""Of those who were asked a moment ago, which is no failure."""
NO_FAILURES = {"", ABSENT, *FIRST_WORDS}
NOT_THIS_NODE = (
    "the API server has no pod on this node; set attribute.node_name by fieldRef spec.nodeName in "
    "EMISSIONS_EXPORTER_ATTRIBUTE_NODE_NAME of the DaemonSet's container"
)


NO_PODS: Mapping[str, PodFacts] = MappingProxyType({})


class _Holders(NamedTuple):
    """Pods in the kubelet's list, by namespace and name."""

    listed: frozenset[tuple[str, str]] = frozenset()
    with_devices: frozenset[tuple[str, str]] = frozenset()


class Told:
    """What those of the two have said that could be opened."""

    def __init__(self, sources: KubernetesSources, clock: Clock) -> None:
        self._kubelet, self._watch, self._missing = sources
        self._clock = clock
        self._held: tuple[object, _Holders] = (None, _Holders())

    def pods(self) -> Mapping[str, PodFacts]:
        """Pods by uid, as the API server described them; the same object while unchanged."""
        return self._watch.known.pods if self._watch is not None else NO_PODS

    def holders(self) -> "_Holders":
        """Pods as the kubelet lists them; the same object as long as nothing changed."""
        containers = self._kubelet.allotted.containers if self._kubelet is not None else ()
        if containers is not self._held[0]:
            self._held = (
                containers,
                _Holders(
                    frozenset((each.namespace, each.pod) for each in containers),
                    frozenset(
                        (each.namespace, each.pod)
                        for each in containers
                        if each.devices or each.claimed
                    ),
                ),
            )
        return self._held[1]

    def asked_ns(self) -> int:
        """When the kubelet was asked for what it lists; 0: it has not answered yet."""
        return self._kubelet.allotted.asked_ns if self._kubelet is not None else 0

    def will_list(self, since_ns: int) -> bool:
        """Whether the kubelet may list a pod in a moment that was first seen then."""
        if self._kubelet is None:
            return False
        allotted = self._kubelet.allotted
        is_asked_again = not allotted.why and 0 < allotted.asked_ns < since_ns
        return is_asked_again or allotted.why == SILENT_KUBELET.why

    def has_server(self) -> bool:
        """Whether there is an API server that may describe pods, now or later."""
        return self._watch is not None

    def names_all(self) -> bool:
        """Whether the API server can be read, so that a pod without a name is new or over."""
        return self._watch is not None and not self._watch.known.why

    def was_heard(self) -> bool:
        """Whether kubelet and API server have answered, or failed to."""
        said = [self._kubelet.allotted.why] if self._kubelet is not None else []
        said += [self._watch.known.why] if self._watch is not None else []
        return not FIRST_WORDS.intersection(said)

    def will_name(self) -> bool:
        """Whether the API server may name a pod that is new in a moment."""
        return self._watch is not None and self._watch.known.why in ("", SILENT_SERVER.why)

    def ask_anew(self) -> None:
        """Have the kubelet asked at once."""
        if self._kubelet is not None:
            self._kubelet.poke()

    def states(
        self, *, has_pods: bool, has_claims: bool, devices_note: str = ""
    ) -> tuple[CollectorState, ...]:
        """How they fare; what they said last counts on, and its age is told.

        `has_pods` says whether there are pods here, `has_claims` whether one has a device by
        dynamic resource allocation, `devices_note` what may be wrong with the devices of pods.
        """
        now_ns = self._clock.boottime_ns()
        states = list(self._missing)
        if self._kubelet is not None:
            allotted = self._kubelet.allotted
            state = _state("kubelet", allotted.at_ns, allotted.why, now_ns=now_ns)
            if not state.why and allotted.skipped:
                state = state._replace(ok=False, why=_skipped(allotted.skipped))
            elif not state.why:
                state = state._replace(why=devices_note)
            states.append(state)
        if self._watch is not None:
            known = self._watch.known
            state = _state("pods", known.at_ns, known.why, now_ns=now_ns)
            if not state.why and has_pods and not known.pods:
                state = state._replace(ok=False, why=NOT_THIS_NODE)
            elif not state.why and has_claims:
                state = state._replace(why=known.gpus_why)
            states.append(state)
        return tuple(states)


def _skipped(reasons: Sequence[str]) -> str:
    return (
        f"the kubelet's answer cannot be decoded in {len(reasons)} places, which are left out; the "
        f"first: {reasons[0]}; report it with the version of the kubelet"
    )


def _state(name: str, at_ns: int, why: str, *, now_ns: int) -> CollectorState:
    age_seconds = (now_ns - at_ns) / NANOSECONDS_PER_SECOND if at_ns else 0.0
    said = f"{why}; what it said {age_seconds:.0f} s ago counts" if why and at_ns else why
    return CollectorState(name, why in NO_FAILURES, 0.0, said)
