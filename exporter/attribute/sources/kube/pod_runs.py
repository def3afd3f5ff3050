"""Pods of this node as runs: by their cgroups, what the kubelet gave them, and their metadata."""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress

from exporter.attribute.run_registry import OTHER_RUN, RunRegistry
from exporter.attribute.sources.cgroups import CgroupMeter, RunCgroups
from exporter.attribute.sources.gpu_holdings import GpuGrant
from exporter.attribute.sources.kube.pod_cgroups import PodCgroup, PodCgroups
from exporter.attribute.sources.kube.pod_devices import PodDevices, PodRun
from exporter.attribute.sources.kube.pod_metadata import (
    PodLogDirectories,
    PodMetadata,
    PodNameInference,
)
from exporter.attribute.sources.kube.sources import KubernetesSources, KubernetesState
from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.model.runs import POD, RunInfo, RunKey
from exporter.model.workload import CollectorState
from exporter.units import NANOSECONDS_PER_SECOND
from exporter.worker import wait_until

IDENTIFICATION_TIMEOUT_NS = 5 * NANOSECONDS_PER_SECOND
"""How long a new pod is kept off the page until the API server has named it."""
POD_SEPARATOR, NAME_SEPARATOR = ",", "="
"""Stand between the pods of a run, and uid and name of each, in what is kept over a restart."""
STARTUP_WAIT_SECONDS = 2.0
"""How long they are waited for after a restart: what was used meanwhile goes by what they say."""
FIRST_POD_UID = -(1 << 33)
"""Pods have no user; those of one namespace share a number below every other."""
UID_BYTES = 6
"""Of a number that tells namespaces apart; more would not be exact in every reader of JSON."""


class PodRuns:
    """Opens the runs of pods, and finds what they use and hold.

    A pod is a run from the moment at which its cgroup is there, or the kubelet has given it a
    device. Until the API server has described it the run is provisional: known by the uid in the
    cgroup, or by the name that the kubelet says. When it is described, what was booked on it
    becomes that of the run that it belongs to.

    Pods of `excluded` namespaces are no runs, nor those beside `included`, if it has any.
    """

    def __init__(
        self,
        procfs: str,
        sources: KubernetesSources,
        run_registry: RunRegistry,
        clock: Clock,
        cgroup_runs: RunCgroups,
        *,
        included: Collection[str] = (),
        excluded: Collection[str] = (),
        gpu_resources: Sequence[str] = (),
    ) -> None:
        self._kubepods = PodCgroups(procfs)
        self._logs = PodLogDirectories(procfs)
        self._told = KubernetesState(sources, clock)
        self._run_registry = run_registry
        self._cgroup_runs = cgroup_runs
        self._clock = clock
        self._included = frozenset(included)
        self._excluded = frozenset(excluded)
        self._pods: dict[str, PodRun] = {}
        self._seen_ns: dict[str, int] = {}
        """When a pod was first seen that has no name yet."""
        self._keys: set[RunKey] = set()
        self._members: Mapping[RunKey, tuple[tuple[str, str], ...]] = {}
        self._of_pods: Mapping[RunKey, tuple[tuple[str, str], ...]] = self._members
        """What the next is made of."""
        self._all_members = dict(self._members)
        self._inner: Mapping[RunKey, str] = {}
        """The pods of runs that began inside one."""
        self._devices = PodDevices(sources.kubelet, sources.watch, gpu_resources)
        self._clocks: dict[str, CgroupMeter | None] = {}
        """The clock of each pod, from when it was first seen; None: it has none."""
        self._left: AbstractSet[str] = frozenset()
        """Pods whose cgroup has gone, though the API server has not said yet that they ended."""
        self._seen: tuple[object, ...] = ()
        before = [
            (pod, run)
            for run in run_registry.visible()
            if run.origin == POD
            for pod in self._noted(run)
        ]
        self._unnamed = {
            pod.uid: PodRun(run.key, None) for pod, run in before if run.is_provisional
        }
        """Pods that may be gone before the API server describes them."""
        self._before = {pod.uid: run.key for pod, run in before if run.ended is None}
        """Runs of before a restart, by their pods."""
        self._since_ns = {pod.uid: pod.started_ns for pod, _ in before}
        self._links = PodNameInference(pod for pod, _ in before if pod.name)
        self._is_waiting = True
        self._is_first = True

    def collect(self) -> None:
        """Open the runs of new pods; before the processes are looked at."""
        if self._is_first and self._before:
            wait_until(self._told.has_answered, STARTUP_WAIT_SECONDS)
        cgroups = self._kubepods.collect()
        told = self._told.pods()
        requested_ns = self._told.requested_ns()
        seen = cgroups, told, self._told.holders(), requested_ns, self._told.is_complete()
        if seen == self._seen and not self._is_waiting:
            return
        self._seen = seen
        now_ns = self._clock.boottime_ns()
        if cgroups:  # else they cannot be listed: our own pod has one
            self._note_cgroups(cgroups, told, now_ns)
        self._is_waiting = False
        known = self._known(cgroups, told, now_ns)
        running = (uid for uid, pod in known.items() if not pod.is_over and uid not in self._left)
        here = dict.fromkeys((*cgroups, *running))
        before, self._pods = self._pods, {}
        for uid in here:
            pod = self._pod(uid, known.get(uid), before.get(uid), now_ns)
            if pod is None:
                continue
            self._pods[uid] = pod
            clock = self._clocks.get(uid)
            if clock is not None and pod.key != OTHER_RUN and self._run_registry.is_open(pod.key):
                self._cgroup_runs.add(pod.key, clock, uid)
        for uid, was in before.items():
            if uid not in self._pods or self._pods[uid].key != was.key:
                self._leave(was.key)
        self._name_late(known, before)
        if self._pods == before:
            self._pods = before  # the same object as long as nothing changed
        else:
            self._keys = {pod.key for pod in self._pods.values()}
            self._members = self._find_members()
            self._note_pods()
        self._seen_ns = {uid: ns for uid, ns in self._seen_ns.items() if uid in here}
        self._is_first = False

    def assign_processes(self) -> None:
        """Pods pay by the clocks of their cgroups; nobody has to know their processes."""

    def run_of_new_process(self, _pid: int) -> RunKey | None:
        """As above."""
        return None

    def run_of(self, pid: int) -> RunKey | None:
        """The pod that a process is in, by its cgroup."""
        pod = self._pods.get(self._kubepods.uid(pid)) if self._pods else None
        return pod.key if pod is not None and self._run_registry.is_open(pod.key) else None

    def is_active(self, key: RunKey) -> bool:
        """Whether a pod of this run has not ended, or may be one that has no name yet."""
        is_unknown = self._is_waiting and key.uid <= FIRST_POD_UID
        return is_unknown or key in self._keys

    def members(self) -> Mapping[RunKey, tuple[tuple[str, str], ...]]:
        """Pods and containers of each run; of one inside a pod, the pod that its lead is in."""
        inner: dict[RunKey, str] = {}
        for run in self._run_registry.running() if self._pods else ():
            if run.enclosing is not None and run.lead_pid:
                uid = self._inner.get(run.key) or self._kubepods.uid(run.lead_pid)
                if uid in self._pods:
                    inner[run.key] = uid
        if inner != self._inner or self._members is not self._of_pods:
            self._inner, self._of_pods = inner, self._members
            of_inner = {
                key: _inner_run_members(self._pods[uid].metadata) for key, uid in inner.items()
            }
            self._all_members = {**self._members, **{k: v for k, v in of_inner.items() if v}}
        return self._all_members

    def held_threads(self) -> Mapping[RunKey, int]:
        """Hardware threads that runs have alone."""
        return self._devices.threads(self._pods)

    def grants(self, names: Mapping[str, str]) -> Sequence[GpuGrant]:
        """The GPUs that pods were given; `names` has UUIDs by what else GPUs are called."""
        return self._devices.grants(self._pods, names)

    def states(self) -> tuple[CollectorState, ...]:
        """How the sources fare; what they said last counts on, and its age is told."""
        return self._told.states(
            has_pods=bool(self._pods),
            has_claims=self._devices.has_claims(),
            devices_note=self._devices.note,
        )

    def _find_members(self) -> dict[RunKey, tuple[tuple[str, str], ...]]:
        members: dict[RunKey, list[tuple[str, str]]] = {}
        for pod in self._pods.values():
            if pod.metadata is not None:
                members.setdefault(pod.key, []).extend(_pod_members(pod.metadata))
        return {key: tuple(sorted(names)) for key, names in members.items()}

    def _note_cgroups(
        self, cgroups: Mapping[str, PodCgroup], told: Mapping[str, PodMetadata], now_ns: int
    ) -> None:
        """Take in which pods have come and which have left."""
        left = self._clocks.keys() - cgroups.keys()
        self._left = (self._left | left) & told.keys() - cgroups.keys()
        if cgroups.keys() - self._clocks.keys():
            self._told.poll_now()
        self._note_clocks(cgroups)
        for uid in cgroups:
            self._seen_ns.setdefault(uid, now_ns)

    def _known(
        self, cgroups: Mapping[str, PodCgroup], told: Mapping[str, PodMetadata], now_ns: int
    ) -> Mapping[str, PodMetadata]:
        """What the API server told, and what the node itself knows of those that it did not."""
        known = {**told, **self._logs.find(cgroups.keys() - told.keys())}
        if cgroups:
            known |= self._links.find(cgroups.keys() - known.keys())
        nameless = self._links.possibly_listed(cgroups.keys() - known.keys())
        if cgroups and (not nameless or self._logs.is_readable):
            return known
        listed, holders = self._told.holders()
        names = {uid: (facts.namespace, facts.name) for uid, facts in known.items()}
        here = {name for uid, name in names.items() if uid not in self._left}
        gone = {names[uid] for uid in self._left & names.keys()} | self._links.gone(listed)
        unnamed = listed - here - gone
        first_ns = [self._seen_ns[uid] for uid in nameless]
        is_late = (now_ns - IDENTIFICATION_TIMEOUT_NS).__ge__
        if nameless and max(first_ns) <= self._told.requested_ns():
            if len(unnamed) < len(nameless):  # then pods have come under names of those that left
                unnamed = listed - here
            if linked := self._links.link(nameless, unnamed):
                known |= linked
                return known
            nameless = self._links.possibly_listed(nameless)
        # Kubelets before 1.34 list pods that are over as well. Where more are listed than can be
        # here, nobody knows which of them are: then processes tell who holds a device.
        is_listable = bool(cgroups) or self._kubepods.has_root
        if is_listable and len(unnamed) > len(nameless):
            return known
        may_be_named = self._told.is_complete() and not any(map(is_late, first_ns))
        may_be_linked = any(self._told.may_list_pod(ns) and not is_late(ns) for ns in first_ns)
        self._is_waiting = bool(holders & unnamed) and (may_be_named or may_be_linked)
        for namespace, name in sorted(holders & unnamed):
            uid = f"{namespace}/{name}"
            if uid in self._pods or not (may_be_named or may_be_linked):
                since_ns = self._since_ns.get(uid, 0)
                known[uid] = PodMetadata(uid, namespace, name, started_ns=since_ns, is_partial=True)
        return known

    def _pod(
        self, uid: str, facts: PodMetadata | None, was: PodRun | None, now_ns: int
    ) -> PodRun | None:
        """A pod with its run; None for one that is not wanted, or may not be."""
        if was is not None and was.metadata is not None and not was.metadata.is_partial:
            return was
        if facts is not None and not self._is_wanted(facts.namespace):
            return None
        is_new = now_ns - self._seen_ns.setdefault(uid, now_ns) < IDENTIFICATION_TIMEOUT_NS
        may_come = is_new and self._told.may_describe_pod() and (facts is None or facts.is_partial)
        may_be_left_out = facts is None and was is None and (self._included or self._excluded)
        if may_be_left_out and is_new and self._may_be_named(uid):
            self._is_waiting = True
            return None
        if was is None or (facts is not None and (was.metadata is None or not facts.is_partial)):
            pod = PodRun(self._open(uid, facts, was), facts)
        else:
            pod = was
        self._is_waiting |= may_come
        if not may_come:
            self._run_registry.reveal(pod.key)
        elif was is None:
            self._run_registry.hide(pod.key)
        return pod

    def _open(self, uid: str, facts: PodMetadata | None, was: PodRun | None) -> RunKey:
        """The run of a pod; the one of before a restart where nobody names the pod now."""
        if was is not None and was.key == OTHER_RUN:
            return OTHER_RUN  # for good: it began like that
        before = self._before.get(uid)
        wanted = self._info(uid, facts)
        if was is None and before is not None and self._run_registry.is_open(before):
            was = PodRun(before, None)
        if was is not None and self._run_registry.has(was.key):
            if facts is None or (facts.is_partial and wanted.key != was.key):
                return was.key  # it is known better than by its name alone
            return self._become(was.key, wanted)
        return self._run_registry.open(wanted).key

    def _become(self, key: RunKey, wanted: RunInfo) -> RunKey:
        """Have a provisional run be the one that it turned out to be."""
        if not self._run_registry.get(key).is_provisional:
            return self._run_registry.open(wanted).key
        run = self._run_registry.identify(key, wanted)
        if run.key != key:
            self._cgroup_runs.transfer_meters(key, run.key)
        return run.key

    def _name_late(self, known: Mapping[str, PodMetadata], before: Mapping[str, PodRun]) -> None:
        """Merge the runs of pods that only the kubelet knew, or that ended meanwhile."""
        gone = {uid: pod for uid, pod in before.items() if uid not in self._pods}
        self._unnamed = {
            uid: pod
            for uid, pod in {**self._unnamed, **gone}.items()
            if self._run_registry.has(pod.key) and self._run_registry.get(pod.key).is_provisional
        }
        if not self._unnamed:
            return
        by_name: dict[str, PodMetadata] = {}
        for facts in known.values():
            name = f"{facts.namespace}/{facts.name}"
            # One that left with a name was never known by the name alone.
            if facts.uid != name and (facts.uid not in self._left or facts.uid in self._unnamed):
                by_name[name] = max(by_name.get(name, facts), facts, key=lambda each: each.created)
            if not facts.is_partial:
                by_name[facts.uid] = facts
        for uid in self._unnamed.keys() & by_name.keys():
            key, facts = self._unnamed[uid].key, by_name[uid]
            here = self._pods.get(facts.uid)
            # It may be the run that another one was just merged into.
            if (
                not self._is_wanted(facts.namespace)
                or not self._run_registry.get(key).is_provisional
            ):
                del self._unnamed[uid]
            elif not facts.is_partial:
                del self._unnamed[uid]
                self._become(key, self._info(facts.uid, facts))
            elif here is not None and here.key != OTHER_RUN:
                # Whose it is has to be known, or its owner would never be credited.
                run = self._run_registry.get(here.key)
                if not run.is_provisional:
                    del self._unnamed[uid]
                    self._become(key, run)

    def _info(self, uid: str, facts: PodMetadata | None) -> RunInfo:
        known = facts or PodMetadata(uid, "", "")
        owner = (("owner_kind", known.owner_kind), ("owner_name", known.owner_name))
        labels = (*known.labels, *[(name, value) for name, value in owner if value])
        return RunInfo(
            key=RunKey(
                # A pod's own uid is that of no other pod, in whichever namespace.
                _namespace_uid(known.namespace) if known.run_id else FIRST_POD_UID,
                known.run_id or uid,
                known.job_id,
            ),
            name=known.name if not known.run_id else known.owner_name or known.name,
            user="",
            origin=POD,
            started=self._clock.wall(),
            scope="cgroup",
            cgroup=uid,
            labels=tuple(sorted(labels)),
            namespace=known.namespace,
            is_provisional=self._told.has_api_server() and (facts is None or facts.is_partial),
        )

    def _is_wanted(self, namespace: str) -> bool:
        is_included = not self._included or namespace in self._included
        return is_included and namespace not in self._excluded

    def _may_be_named(self, uid: str) -> bool:
        """Whether API server or kubelet may say the name of a new pod in a moment."""
        return self._told.may_describe_pod() or self._told.may_list_pod(self._seen_ns[uid])

    def _note_clocks(self, cgroups: Mapping[str, PodCgroup]) -> None:
        """Begin with the clocks of pods that are new; what was used before our time is nobody's."""
        clocks: dict[str, CgroupMeter | None] = {}
        for uid, cgroup in cgroups.items():
            clock = self._clocks.get(uid)
            # That of version 1 may come a moment later than the rest of the pod.
            with suppress(OSError, Unavailable):
                if clock is not None:
                    clock.follow(cgroup.mounted, cgroup.at)
                else:
                    clock = CgroupMeter(cgroup.mounted, cgroup.at)
                    if not self._is_first and uid not in self._clocks:
                        clock.last_us = 0
            clocks[uid] = clock
        self._clocks = clocks

    def _note_pods(self) -> None:
        """Keep with each run which pods it has, for a restart at which nobody names them."""
        pods: dict[RunKey, list[str]] = {}
        for uid, pod in self._pods.items():
            pods.setdefault(pod.key, []).append(_stored_pod(uid, pod.metadata))
        for key, of_run in pods.items():
            if key != OTHER_RUN:
                self._run_registry.set_cgroup(key, POD_SEPARATOR.join(sorted(of_run)))

    def _noted(self, run: RunInfo) -> Iterator[PodMetadata]:
        """The pods of a run of before a restart; what they were given they had since it began."""
        ago_ns = round((self._clock.wall() - run.started) * NANOSECONDS_PER_SECOND)
        since_ns = max(0, self._clock.boottime_ns() - ago_ns)
        for note in run.cgroup.split(POD_SEPARATOR):
            uid, _, called = note.partition(NAME_SEPARATOR)
            namespace, _, name = called.partition("/")
            yield PodMetadata(uid, namespace, name, started_ns=since_ns, is_partial=True)

    def _leave(self, key: RunKey) -> None:
        """A pod is no part of it any more; the run goes on while it has another one."""
        here = {uid for uid, pod in self._pods.items() if pod.key == key}
        self._cgroup_runs.keep_only(key, here)


def _stored_pod(uid: str, facts: PodMetadata | None) -> str:
    """What is kept of a pod over a restart."""
    name = f"{facts.namespace}/{facts.name}" if facts is not None else uid
    return uid if name == uid else f"{uid}{NAME_SEPARATOR}{name}"


def _pod_members(facts: PodMetadata) -> list[tuple[str, str]]:
    """The containers of a pod, each with its name; they are not known of one that is partly so."""
    return [(facts.name, container) for container in facts.containers or ("",)]


def _inner_run_members(facts: PodMetadata | None) -> tuple[tuple[str, str], ...]:
    """The pod of a run that began inside it, and the container where there is but one."""
    if facts is None:
        return ()
    return ((facts.name, facts.containers[0] if len(facts.containers) == 1 else ""),)


def _namespace_uid(namespace: str) -> int:
    """A namespace that somebody makes up must not get the number of another one."""
    digest = hashlib.sha256(namespace.encode()).digest()
    return FIRST_POD_UID - int.from_bytes(digest[:UID_BYTES])
