"""Pods of this node as runs: from cgroups, kubelet allocations and pod metadata."""

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
"""Limit for hiding a new pod until the API server has described it."""
PREPARATION_TIMEOUT_NS = 60 * NANOSECONDS_PER_SECOND
"""Limit for polling the kubelet every tick until a new pod's claimed devices are prepared."""
POD_SEPARATOR, NAME_SEPARATOR = ",", "="
"""Separators of pods, and of uid and name, in the stored `cgroup` of a run."""
STARTUP_WAIT_SECONDS = 2.0
"""Wait for kubelet and API server after a restart, since energy used meanwhile is split by their
answers."""
FIRST_POD_UID = -(1 << 33)
"""Pods have no user; those of a namespace share a negative uid, at most this one."""
UID_BYTES = 6
"""Size of the hash of a namespace; larger numbers are not exact in every JSON parser."""


class PodRuns:
    """Opens the runs of pods, and finds their usage and holdings.

    A pod is a run as soon as it has a cgroup, or a device allocated by the kubelet. Until the API
    server has described the pod, its run is provisional: identified by the uid of the cgroup, or by
    the name in the kubelet's list. After that, everything booked on it is merged into the run that
    the pod belongs to.

    Pods of `excluded` namespaces are not runs; if `included` is not empty, only pods of these
    namespaces are.
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
        self._kubernetes = KubernetesState(sources, clock)
        self._run_registry = run_registry
        self._cgroup_runs = cgroup_runs
        self._clock = clock
        self._included = frozenset(included)
        self._excluded = frozenset(excluded)
        self._pods: dict[str, PodRun] = {}
        self._seen_ns: dict[str, int] = {}
        """When a pod without a name was first seen."""
        self._keys: set[RunKey] = set()
        self._members: Mapping[RunKey, tuple[tuple[str, str], ...]] = {}
        self._members_input: Mapping[RunKey, tuple[tuple[str, str], ...]] = self._members
        """Input of `_all_members`."""
        self._all_members = dict(self._members)
        self._inner_pods: Mapping[RunKey, str] = {}
        """Pods of the runs that were started inside a pod."""
        self._devices = PodDevices(sources.kubelet, sources.watch, gpu_resources)
        self._cgroups: Mapping[str, PodCgroup] = {}
        """The cgroups that the meters follow."""
        self._meters: dict[str, CgroupMeter | None] = {}
        """Meter of each pod, since it was first seen; None: it has no CPU accounting."""
        self._left: AbstractSet[str] = frozenset()
        """Pods whose cgroup was removed, but not yet reported as ended by the API server."""
        self._empty: set[str] = set()
        """Cgroups of unknown pods that had no process at the start and have none since."""
        self._inputs: tuple[object, ...] = ()
        before = [
            (pod, run)
            for run in run_registry.visible()
            if run.origin == POD
            for pod in self._stored_pods(run)
        ]
        self._unnamed = {
            pod.uid: PodRun(run.key, None) for pod, run in before if run.is_provisional
        }
        """Pods that may end before the API server describes them."""
        self._before = {pod.uid: run.key for pod, run in before if run.ended is None}
        """Open runs from before a restart, by pod."""
        self._since_ns = {pod.uid: pod.started_ns for pod, _ in before}
        self._name_inference = PodNameInference(pod for pod, _ in before if pod.name)
        self._is_waiting = True
        self._is_first = True

    def collect(self) -> None:
        """Open the runs of new pods; call it before the process table refresh."""
        if self._is_first and self._before:
            wait_until(self._kubernetes.has_answered, STARTUP_WAIT_SECONDS)
        self._poll_for_claimed_devices()
        cgroups = self._kubepods.collect()
        described = self._kubernetes.pods()
        requested_ns = self._kubernetes.requested_ns()
        started = [uid for uid in self._empty if uid in cgroups and cgroups[uid].has_processes()]
        seen = (
            cgroups,
            started,
            described,
            self._kubernetes.holders(),
            requested_ns,
            self._kubernetes.is_complete(),
        )
        if seen == self._inputs and not self._is_waiting:
            return
        self._inputs = seen
        now_ns = self._clock.boottime_ns()
        if cgroups:  # if empty they cannot be listed: at least our own pod has one
            self._update_cgroups(cgroups, described, now_ns)
        self._is_waiting = False
        cgroups = self._without_left_behind(cgroups, described)
        known = self._known(cgroups, described, now_ns)
        running = (uid for uid, pod in known.items() if not pod.is_over and uid not in self._left)
        here = dict.fromkeys((*cgroups, *running))
        before, self._pods = self._pods, {}
        for uid in here:
            pod = self._pod(uid, known.get(uid), before.get(uid), now_ns)
            if pod is None:
                continue
            self._pods[uid] = pod
            meter = self._meters.get(uid)
            if meter is not None and pod.key != OTHER_RUN and self._run_registry.is_open(pod.key):
                self._cgroup_runs.add(pod.key, meter, uid)
        for uid, was in before.items():
            if uid not in self._pods or self._pods[uid].key != was.key:
                self._remove_meters(was.key)
        self._merge_identified(known, before)
        if self._pods == before:
            self._pods = before  # keep the same object while unchanged
        else:
            self._keys = {pod.key for pod in self._pods.values()}
            self._members = self._find_members()
            self._store_pods()
        self._seen_ns = {uid: ns for uid, ns in self._seen_ns.items() if uid in here}
        self._is_first = False

    def assign_processes(self) -> None:
        """Do nothing: pods are metered by their cgroups."""

    def run_of_new_process(self, _pid: int) -> RunKey | None:
        """None, since pods are metered by their cgroups."""
        return None

    def run_of(self, pid: int) -> RunKey | None:
        """The run of the pod that contains a process, by its cgroup."""
        pod = self._pods.get(self._kubepods.uid(pid)) if self._pods else None
        return pod.key if pod is not None and self._run_registry.is_open(pod.key) else None

    def is_active(self, key: RunKey) -> bool:
        """Whether a pod of this run has not ended, or may be a pod without a name."""
        is_unknown = self._is_waiting and key.uid <= FIRST_POD_UID
        return is_unknown or key in self._keys

    def members(self) -> Mapping[RunKey, tuple[tuple[str, str], ...]]:
        """Pods and containers by run; for a run inside a pod, the pod of its lead process."""
        inner: dict[RunKey, str] = {}
        for run in self._run_registry.running() if self._pods else ():
            if run.enclosing is not None and run.lead_pid:
                uid = self._inner_pods.get(run.key) or self._kubepods.uid(run.lead_pid)
                if uid in self._pods:
                    inner[run.key] = uid
        if inner != self._inner_pods or self._members is not self._members_input:
            self._inner_pods, self._members_input = inner, self._members
            of_inner = {
                key: _inner_run_members(self._pods[uid].metadata) for key, uid in inner.items()
            }
            self._all_members = {**self._members, **{k: v for k, v in of_inner.items() if v}}
        return self._all_members

    def held_threads(self) -> Mapping[RunKey, int]:
        """Exclusive hardware threads by run."""
        return self._devices.threads(self._pods)

    def grants(self, names: Mapping[str, str]) -> Sequence[GpuGrant]:
        """GPUs allocated to pods; `names` maps other names of GPUs to UUIDs."""
        return self._devices.grants(self._pods, names)

    def states(self) -> tuple[CollectorState, ...]:
        """States of the sources."""
        return self._kubernetes.states(
            has_pods=bool(self._pods),
            has_claims=self._devices.has_claims(),
            devices_note=self._devices.note,
        )

    def _poll_for_claimed_devices(self) -> None:
        """Poll the kubelet again while a new pod has a claim without a listed device.

        The kubelet prepares and lists it only after it has created the cgroup of the pod.
        """
        if unlisted := self._devices.unlisted_claims(self._pods):
            since_ns = self._clock.boottime_ns() - PREPARATION_TIMEOUT_NS
            if any(self._seen_ns.get(uid, 0) > since_ns for uid in unlisted):
                self._kubernetes.poll_now()

    def _find_members(self) -> dict[RunKey, tuple[tuple[str, str], ...]]:
        members: dict[RunKey, list[tuple[str, str]]] = {}
        for pod in self._pods.values():
            if pod.metadata is not None:
                members.setdefault(pod.key, []).extend(_pod_members(pod.metadata))
        return {key: tuple(sorted(names)) for key, names in members.items()}

    def _update_cgroups(
        self, cgroups: Mapping[str, PodCgroup], described: Mapping[str, PodMetadata], now_ns: int
    ) -> None:
        """Record new and removed cgroups of pods."""
        left = self._meters.keys() - cgroups.keys()
        self._left = (self._left | left) & described.keys() - cgroups.keys()
        if cgroups.keys() - self._meters.keys():
            self._kubernetes.poll_now()
        self._update_meters(cgroups)
        for uid in cgroups:
            self._seen_ns.setdefault(uid, now_ns)

    def _known(
        self, cgroups: Mapping[str, PodCgroup], described: Mapping[str, PodMetadata], now_ns: int
    ) -> Mapping[str, PodMetadata]:
        """Metadata from the API server; for other pods, from log directories and the kubelet."""
        known = {**described, **self._logs.find(cgroups.keys() - described.keys())}
        if cgroups:
            known |= self._name_inference.find(cgroups.keys() - known.keys())
        unnamed_uids = self._name_inference.possibly_listed(cgroups.keys() - known.keys())
        if cgroups and (not unnamed_uids or self._logs.is_readable):
            return known
        listed, holders = self._kubernetes.holders()
        names = {uid: (metadata.namespace, metadata.name) for uid, metadata in known.items()}
        here = {name for uid, name in names.items() if uid not in self._left}
        gone = {names[uid] for uid in self._left & names.keys()} | self._name_inference.gone(listed)
        unmatched_names = listed - here - gone
        first_ns = [self._seen_ns[uid] for uid in unnamed_uids]
        is_late = (now_ns - IDENTIFICATION_TIMEOUT_NS).__ge__
        if unnamed_uids and max(first_ns) <= self._kubernetes.requested_ns():
            if len(unmatched_names) < len(unnamed_uids):  # new pods have the names of removed ones
                unmatched_names = listed - here
            if linked := self._name_inference.link(unnamed_uids, unmatched_names):
                known |= linked
                return known
            unnamed_uids = self._name_inference.possibly_listed(unnamed_uids)
        # Kubelets before 1.34 also list ended pods. If more are listed than can be running, the
        # running ones are unknown: then GPU processes determine the holders of devices.
        is_listable = bool(cgroups) or self._kubepods.has_root
        if is_listable and len(unmatched_names) > len(unnamed_uids):
            return known
        may_be_named = self._kubernetes.is_complete() and not any(map(is_late, first_ns))
        may_be_linked = any(
            self._kubernetes.may_list_pod(ns) and not is_late(ns) for ns in first_ns
        )
        self._is_waiting = bool(holders & unmatched_names) and (may_be_named or may_be_linked)
        for namespace, name in sorted(holders & unmatched_names):
            uid = f"{namespace}/{name}"
            if uid in self._pods or not (may_be_named or may_be_linked):
                since_ns = self._since_ns.get(uid, 0)
                known[uid] = PodMetadata(uid, namespace, name, started_ns=since_ns, is_partial=True)
        return known

    def _without_left_behind(
        self, cgroups: Mapping[str, PodCgroup], described: Mapping[str, PodMetadata]
    ) -> Mapping[str, PodCgroup]:
        """Return the cgroups without those that a runtime had left behind.

        Those are there at the start, and of unknown pods without a process. A cgroup that appears
        later is that of a new pod, whose first process is still to come.
        """
        candidates = cgroups.keys() if self._is_first else self._empty & cgroups.keys()
        self._empty = {
            uid
            for uid in candidates - described.keys() - self._pods.keys()
            if not cgroups[uid].has_processes()
        }
        return {uid: cgroup for uid, cgroup in cgroups.items() if uid not in self._empty}

    def _pod(
        self, uid: str, metadata: PodMetadata | None, was: PodRun | None, now_ns: int
    ) -> PodRun | None:
        """A pod with its run; None if the pod is excluded, or may be."""
        if was is not None and was.metadata is not None and not was.metadata.is_partial:
            return was
        if metadata is not None and not self._is_wanted(metadata.namespace):
            return None
        is_new = now_ns - self._seen_ns.setdefault(uid, now_ns) < IDENTIFICATION_TIMEOUT_NS
        may_come = (
            is_new
            and self._kubernetes.may_describe_pod()
            and (metadata is None or metadata.is_partial)
        )
        may_be_left_out = metadata is None and was is None and (self._included or self._excluded)
        if may_be_left_out and is_new and self._may_get_name(uid):
            self._is_waiting = True
            return None
        if was is None or (
            metadata is not None and (was.metadata is None or not metadata.is_partial)
        ):
            pod = PodRun(self._open(uid, metadata, was), metadata)
        else:
            pod = was
        self._is_waiting |= may_come
        if not may_come:
            self._run_registry.reveal(pod.key)
        elif was is None:
            self._run_registry.hide(pod.key)
        return pod

    def _open(self, uid: str, metadata: PodMetadata | None, was: PodRun | None) -> RunKey:
        """The run of a pod; without metadata, its run from before a restart."""
        if was is not None and was.key == OTHER_RUN:
            return OTHER_RUN  # a folded run stays folded
        before = self._before.get(uid)
        wanted = self._info(uid, metadata)
        if was is None and before is not None and self._run_registry.is_open(before):
            was = PodRun(before, None)
        if was is not None and self._run_registry.has(was.key):
            if metadata is None or (metadata.is_partial and wanted.key != was.key):
                return was.key  # the run has more than a name
            return self._identify(was.key, wanted)
        return self._run_registry.open(wanted).key

    def _identify(self, key: RunKey, wanted: RunInfo) -> RunKey:
        """Replace a provisional run by the identified one."""
        if not self._run_registry.get(key).is_provisional:
            return self._run_registry.open(wanted).key
        run = self._run_registry.identify(key, wanted)
        if run.key != key:
            self._cgroup_runs.transfer_meters(key, run.key)
        return run.key

    def _merge_identified(
        self, known: Mapping[str, PodMetadata], before: Mapping[str, PodRun]
    ) -> None:
        """Merge the runs of pods that only the kubelet listed, or that ended before."""
        gone = {uid: pod for uid, pod in before.items() if uid not in self._pods}
        self._unnamed = {
            uid: pod
            for uid, pod in {**self._unnamed, **gone}.items()
            if self._run_registry.has(pod.key) and self._run_registry.get(pod.key).is_provisional
        }
        if not self._unnamed:
            return
        by_name: dict[str, PodMetadata] = {}
        for metadata in known.values():
            name = f"{metadata.namespace}/{metadata.name}"
            # A removed pod with a name was never identified by the name alone.
            if metadata.uid != name and (
                metadata.uid not in self._left or metadata.uid in self._unnamed
            ):
                by_name[name] = max(
                    by_name.get(name, metadata), metadata, key=lambda each: each.created
                )
            if not metadata.is_partial:
                by_name[metadata.uid] = metadata
        for uid in self._unnamed.keys() & by_name.keys():
            key, metadata = self._unnamed[uid].key, by_name[uid]
            here = self._pods.get(metadata.uid)
            # Another run may just have been merged into it.
            if (
                not self._is_wanted(metadata.namespace)
                or not self._run_registry.get(key).is_provisional
            ):
                del self._unnamed[uid]
            elif not metadata.is_partial:
                del self._unnamed[uid]
                self._identify(key, self._info(metadata.uid, metadata))
            elif here is not None and here.key != OTHER_RUN:
                # Merge only into an identified run, else its owner would never be credited.
                run = self._run_registry.get(here.key)
                if not run.is_provisional:
                    del self._unnamed[uid]
                    self._identify(key, run)

    def _info(self, uid: str, metadata: PodMetadata | None) -> RunInfo:
        known = metadata or PodMetadata(uid, "", "")
        owner = (("owner_kind", known.owner_kind), ("owner_name", known.owner_name))
        labels = (*known.labels, *[(name, value) for name, value in owner if value])
        return RunInfo(
            key=RunKey(
                # The uid of a pod is unique over all namespaces.
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
            is_provisional=self._kubernetes.has_api_server()
            and (metadata is None or metadata.is_partial),
        )

    def _is_wanted(self, namespace: str) -> bool:
        is_included = not self._included or namespace in self._included
        return is_included and namespace not in self._excluded

    def _may_get_name(self, uid: str) -> bool:
        """Whether API server or kubelet may soon have the name of a new pod."""
        return self._kubernetes.may_describe_pod() or self._kubernetes.may_list_pod(
            self._seen_ns[uid]
        )

    def _update_meters(self, cgroups: Mapping[str, PodCgroup]) -> None:
        """Update the meters of pods; CPU time from before the first tick is not counted."""
        meters: dict[str, CgroupMeter | None] = {}
        for uid, cgroup in cgroups.items():
            meter = self._meters.get(uid)
            # The version 1 cgroup may be created slightly later than the others.
            with suppress(OSError, Unavailable):
                if meter is not None:
                    if cgroup != self._cgroups.get(uid):
                        meter.follow(cgroup.mounted, cgroup.at)
                else:
                    meter = CgroupMeter(cgroup.mounted, cgroup.at)
                    if not self._is_first and uid not in self._meters:
                        meter.last_us = 0
            meters[uid] = meter
        self._meters, self._cgroups = meters, cgroups

    def _store_pods(self) -> None:
        """Store the pods of each run, for a restart without metadata."""
        pods: dict[RunKey, list[str]] = {}
        for uid, pod in self._pods.items():
            pods.setdefault(pod.key, []).append(_stored_pod(uid, pod.metadata))
        for key, of_run in pods.items():
            if key != OTHER_RUN:
                self._run_registry.set_cgroup(key, POD_SEPARATOR.join(sorted(of_run)))

    def _stored_pods(self, run: RunInfo) -> Iterator[PodMetadata]:
        """The stored pods of a run from before a restart; devices are held since its start."""
        ago_ns = round((self._clock.wall() - run.started) * NANOSECONDS_PER_SECOND)
        since_ns = max(0, self._clock.boottime_ns() - ago_ns)
        for entry in run.cgroup.split(POD_SEPARATOR):
            uid, _, full_name = entry.partition(NAME_SEPARATOR)
            namespace, _, name = full_name.partition("/")
            yield PodMetadata(uid, namespace, name, started_ns=since_ns, is_partial=True)

    def _remove_meters(self, key: RunKey) -> None:
        """Remove the meters of pods that have left a run; it continues with its other pods."""
        here = {uid for uid, pod in self._pods.items() if pod.key == key}
        self._cgroup_runs.keep_only(key, here)


def _stored_pod(uid: str, metadata: PodMetadata | None) -> str:
    """The stored form of a pod: uid, and its name if known."""
    name = f"{metadata.namespace}/{metadata.name}" if metadata is not None else uid
    return uid if name == uid else f"{uid}{NAME_SEPARATOR}{name}"


def _pod_members(metadata: PodMetadata) -> list[tuple[str, str]]:
    """Pairs of pod and container; the container is "" with partial metadata."""
    return [(metadata.name, container) for container in metadata.containers or ("",)]


def _inner_run_members(metadata: PodMetadata | None) -> tuple[tuple[str, str], ...]:
    """Pod and container of a run inside a pod; the container is "" if there are several."""
    if metadata is None:
        return ()
    return ((metadata.name, metadata.containers[0] if len(metadata.containers) == 1 else ""),)


def _namespace_uid(namespace: str) -> int:
    """The uid of a namespace: a cryptographic hash, so that it cannot be forged."""
    digest = hashlib.sha256(namespace.encode()).digest()
    return FIRST_POD_UID - int.from_bytes(digest[:UID_BYTES])
