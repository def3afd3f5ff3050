"""Which pod has which name, where the API server has not described it: by what is left over."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from exporter.attribute.sources.kube.pod_facts import PodFacts


class Links:
    """Pods by uid, with the name that they must have.

    Cgroups are called by uids, and the kubelet lists names. Where one of either is left that
    nothing else explains, the two are one pod. It stays linked until its cgroup has gone.
    """

    def __init__(self, known: Iterable[PodFacts]) -> None:
        """`known` are pods of before a restart."""
        self._linked = {facts.uid: facts for facts in known}
        self._gone: AbstractSet[tuple[str, str]] = frozenset()
        """Names of those that have left, which a kubelet before 1.34 may list on."""
        self._unlisted: AbstractSet[str] = frozenset()
        """Pods that a list that is newer than they are does not have, as one that is over."""

    def find(self, nameless: AbstractSet[str]) -> Mapping[str, PodFacts]:
        """Those of these pods that were linked; what is not among them is forgotten."""
        gone = [facts for uid, facts in self._linked.items() if uid not in nameless]
        self._gone = self._gone | {(facts.namespace, facts.name) for facts in gone}
        self._linked = {uid: facts for uid, facts in self._linked.items() if uid in nameless}
        self._unlisted = self._unlisted & nameless
        return self._linked

    def gone(self, listed: AbstractSet[tuple[str, str]]) -> AbstractSet[tuple[str, str]]:
        """Names in the kubelet's list that may be those of pods that have left."""
        self._gone = self._gone & listed
        return self._gone

    def listable(self, nameless: AbstractSet[str]) -> AbstractSet[str]:
        """Those of these pods that may be in the kubelet's list."""
        return nameless - self._unlisted

    def link(
        self, nameless: AbstractSet[str], names: AbstractSet[tuple[str, str]]
    ) -> Mapping[str, PodFacts]:
        """The pod that is left and the name that is left, of a list that has all of them."""
        if not names:
            self._unlisted = self._unlisted | nameless
        if not len(nameless) == len(names) == 1:
            return {}
        (uid,), ((namespace, name),) = nameless, names
        linked = {uid: PodFacts(uid, namespace, name, is_partial=True)}
        self._linked = {**self._linked, **linked}
        return linked
