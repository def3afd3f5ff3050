"""Pods of this node as runs: by their cgroups, what the kubelet gave them, and their metadata."""

import zlib
from collections.abc import Collection, Mapping, Sequence

from exporter.attribute.runbook import OTHER_RUN, Runbook
from exporter.attribute.sources.cgroup_runs import CgroupRuns
from exporter.attribute.sources.cgroups import CgroupMeter
from exporter.attribute.sources.grants import Grant
from exporter.attribute.sources.kubepods import Kubepods, PodCgroup
from exporter.attribute.sources.kubernetes import KubernetesSources
from exporter.attribute.sources.pod_devices import PodDevices, PodRun
from exporter.attribute.sources.pod_facts import PodFacts
from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.model.runs import RunInfo, RunKey
from exporter.model.workload import CollectorState
from exporter.units import NANOSECONDS_PER_SECOND

ORIGIN = "pod"
PATIENCE_NS = 5 * NANOSECONDS_PER_SECOND
"""How long a new pod waits for its name, before it becomes a run without one."""
STALE_NS = 60 * NANOSECONDS_PER_SECOND
"""A source that was silent for so long is said to fail, though the last that it said counts."""
FIRST_UID = -(1 << 33)
"""Pods have no user; those of one namespace share a number below every other."""


class Pods:
    """Opens the runs of pods, and finds what they use and hold.

    Pods of `excluded` namespaces are no runs, nor those beside `included`, if it has any.
    """

    def __init__(
        self,
        procfs: str,
        sources: KubernetesSources,
        runbook: Runbook,
        clock: Clock,
        cgroup_runs: CgroupRuns,
        *,
        included: Collection[str] = (),
        excluded: Collection[str] = (),
    ) -> None:
        self._kubepods = Kubepods(procfs)
        self._kubelet, self._watch, self._missing = sources
        self._runbook = runbook
        self._cgroup_runs = cgroup_runs
        self._clock = clock
        self._included = frozenset(included)
        self._excluded = frozenset(excluded)
        self._pods: dict[str, PodRun] = {}
        self._seen_ns: dict[str, int] = {}
        """When a pod was first seen that has no name yet."""
        self._keys: set[RunKey] = set()
        self._members: Mapping[RunKey, tuple[tuple[str, str], ...]] = {}
        self._devices = PodDevices(self._kubelet, self._watch)
        self._clocks: dict[str, CgroupMeter | None] = {}
        """The clock of each pod, from when it was first seen; None: it has none."""
        self._seen: tuple[object, object] = (None, None)
        self._named: tuple[object, Mapping[str, PodFacts]] = (None, {})
        self._before = {run.cgroup: run.key for run in runbook.running() if run.origin == ORIGIN}
        """Runs of before a restart, by the pod that they began with."""
        self._is_waiting = True
        self._is_first = True

    def look(self) -> None:
        """Open the runs of new pods; before the processes are looked at."""
        cgroups = self._kubepods.look()
        known = self._known()
        if cgroups is self._seen[0] and known is self._seen[1] and not self._is_waiting:
            return
        self._seen = cgroups, known
        now_ns = self._clock.boottime_ns()
        here = {
            **dict.fromkeys(cgroups),
            **{uid: None for uid, p in known.items() if not p.is_over},
        }
        before, self._pods = self._pods, {}
        self._is_waiting = False
        self._note_clocks(cgroups)
        for uid in here:
            facts = known.get(uid)
            pod = before.get(uid)
            if pod is None or (pod.facts is None and facts is not None and pod.key.run_id == uid):
                if facts is None and self._may_come(uid, now_ns):
                    self._is_waiting = True
                    continue
                if facts is not None and not self._is_wanted(facts.namespace):
                    continue
                pod = PodRun(self._open(uid, facts), facts)
            self._pods[uid] = pod
            clock = self._clocks.get(uid)
            if clock is not None and pod.key != OTHER_RUN and self._runbook.is_open(pod.key):
                self._cgroup_runs.add(pod.key, clock, uid)
        for uid in before.keys() - self._pods.keys():
            self._leave(before[uid].key)
        if self._pods == before:
            self._pods = before  # the same object as long as nothing changed
        else:
            self._keys = {pod.key for pod in self._pods.values()}
            self._members = self._find_members()
        self._seen_ns = {uid: ns for uid, ns in self._seen_ns.items() if uid in here}
        self._is_first = False

    def claim_processes(self) -> None:
        """Pods pay by the clocks of their cgroups; nobody has to know their processes."""

    def adopts(self, _pid: int) -> RunKey | None:
        """As above."""
        return None

    def run_of(self, pid: int) -> RunKey | None:
        """The pod that a process is in, by its cgroup."""
        pod = self._pods.get(self._kubepods.uid(pid))
        return pod.key if pod is not None and self._runbook.is_open(pod.key) else None

    def is_here(self, key: RunKey) -> bool:
        """Whether a pod of this run has not ended, or may be one that has no name yet."""
        is_unknown = self._is_waiting and key.uid <= FIRST_UID
        return is_unknown or key in self._keys

    def members(self) -> Mapping[RunKey, tuple[tuple[str, str], ...]]:
        """Pods and containers of each run."""
        return self._members

    def held_threads(self) -> Mapping[RunKey, int]:
        """Hardware threads that runs have alone."""
        return self._devices.threads(self._pods)

    def grants(self, ordinals: Mapping[str, str]) -> Sequence[Grant]:
        """The GPUs that pods were given; `ordinals` has the UUID of each GPU by its index."""
        return self._devices.grants(self._pods, ordinals)

    def states(self) -> tuple[CollectorState, ...]:
        """How the sources fare; what they said last counts on, and its age is told."""
        now_ns = self._clock.boottime_ns()
        states = list(self._missing)
        if self._kubelet is not None:
            states.append(_state("kubelet", *self._kubelet.allotted[2:], now_ns=now_ns))
        if self._watch is not None:
            states.append(_state("pods", *self._watch.known[2:], now_ns=now_ns))
        return tuple(states)

    def _known(self) -> Mapping[str, PodFacts]:
        """Pods by uid; without the API server the kubelet's names have to do, for what it gave."""
        if self._watch is not None:
            return self._watch.known.pods
        containers = self._kubelet.allotted.containers if self._kubelet is not None else ()
        if containers is self._named[0]:
            return self._named[1]
        names = {(each.namespace, each.pod) for each in containers if each.devices or each.claimed}
        facts = {f"{pod[0]}/{pod[1]}": PodFacts(f"{pod[0]}/{pod[1]}", *pod) for pod in names}
        self._named = containers, facts
        return facts

    def _find_members(self) -> dict[RunKey, tuple[tuple[str, str], ...]]:
        members: dict[RunKey, list[tuple[str, str]]] = {}
        for pod in self._pods.values():
            if pod.facts is not None:
                names = [(pod.facts.name, container) for container in pod.facts.containers]
                members.setdefault(pod.key, []).extend(names)
        return {key: tuple(sorted(names)) for key, names in members.items()}

    def _open(self, uid: str, facts: PodFacts | None) -> RunKey:
        """The run of a pod; the one of before a restart where nobody names the pod now."""
        before = self._before.get(uid)
        if facts is None and before is not None and self._runbook.is_open(before):
            return before
        return self._runbook.open(self._info(uid, facts)).key

    def _info(self, uid: str, facts: PodFacts | None) -> RunInfo:
        known = facts or PodFacts(uid, "", "")
        owner = (("owner_kind", known.owner_kind), ("owner_name", known.owner_name))
        labels = (*known.labels, *[(name, value) for name, value in owner if value])
        return RunInfo(
            key=RunKey(
                # A pod's own uid is that of no other pod, in whichever namespace.
                _uid(known.namespace) if known.run_id else FIRST_UID,
                known.run_id or uid,
                known.job_id,
            ),
            name=known.name if not known.run_id else known.owner_name or known.name,
            user="",
            origin=ORIGIN,
            started=self._clock.wall(),
            scope="cgroup",
            cgroup=uid,
            labels=tuple(sorted(labels)),
            namespace=known.namespace,
        )

    def _is_wanted(self, namespace: str) -> bool:
        is_included = not self._included or namespace in self._included
        return is_included and namespace not in self._excluded

    def _may_come(self, uid: str, now_ns: int) -> bool:
        """Whether the name of a new pod may yet come from the API server."""
        if self._watch is None or (self._watch.known.at_ns and self._watch.known.why):
            return False
        return now_ns - self._seen_ns.setdefault(uid, now_ns) < PATIENCE_NS

    def _note_clocks(self, cgroups: Mapping[str, PodCgroup]) -> None:
        """Begin with the clocks of pods that are new; what was used before our time is nobody's."""
        clocks: dict[str, CgroupMeter | None] = {}
        for uid, cgroup in cgroups.items():
            if uid in self._clocks:
                clocks[uid] = self._clocks[uid]
                continue
            try:
                clock = clocks[uid] = CgroupMeter(cgroup.mounted, cgroup.at)
            except (OSError, Unavailable):
                clocks[uid] = None
            else:
                if not self._is_first:
                    clock.last_us = 0
        self._clocks = clocks

    def _leave(self, key: RunKey) -> None:
        """A pod is gone; the run goes on while it has another one."""
        here = {uid for uid, pod in self._pods.items() if pod.key == key}
        self._cgroup_runs.keep(key, here)


def _uid(namespace: str) -> int:
    return FIRST_UID - zlib.crc32(namespace.encode())


def _state(name: str, at_ns: int, why: str, *, now_ns: int) -> CollectorState:
    age_seconds = (now_ns - at_ns) / NANOSECONDS_PER_SECOND if at_ns else 0.0
    said = f"{why}; what it said {age_seconds:.0f} s ago counts" if why and at_ns else why
    return CollectorState(name, not why, 0.0, said)
