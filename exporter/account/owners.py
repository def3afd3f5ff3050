"""What counters showed of runs that left the page, added up by whose they were."""

from collections.abc import Collection, Mapping

from exporter.model.runs import OTHER_OWNER, Owner, RunInfo, owner_of

MOST = 1_000
"""Owners with a sum of their own; those beyond are added up as `other`, when they come."""


class Owners:
    """The sums; they only ever grow, and no owner is taken away."""

    def __init__(
        self, restored: Mapping[Owner, tuple[int, int]], exported_labels: Collection[str]
    ) -> None:
        self._exported_labels = exported_labels
        self._sums = dict(restored)
        self._changed: set[Owner] = set()
        self.shown: tuple[tuple[Owner, int, int], ...] = self._show()
        """Microjoules and nanograms by owner; the same object as long as nothing changed."""

    def settle(self, run: RunInfo, known: RunInfo | None) -> Owner | None:
        """Whose a run is: what was settled when it came to the page, else what is known now.

        None where that may change: the name of the user is not known, or the run is provisional.
        An owner's counter never falls, so what such a run used is added to it when that is known.
        """
        if known is not None and known.owner is not None:
            return known.owner
        if not run.is_user_known or (run.is_provisional and run.ended is None):
            return None
        return owner_of(run, self._exported_labels)

    def add(self, run: RunInfo, energy_uj: int, carbon_ng: int) -> None:
        """Take over what a counter showed of a run that leaves."""
        self.credit(self.settle(run, run) or self._unnamed(run), energy_uj, carbon_ng)

    def credit(self, owner: Owner, energy_uj: int, carbon_ng: int) -> None:
        """Add to the sums of an owner."""
        if owner not in self._sums and len(self._sums) >= MOST:
            owner = OTHER_OWNER
        known_uj, known_ng = self._sums.get(owner, (0, 0))
        self._sums[owner] = known_uj + energy_uj, known_ng + carbon_ng
        self._changed.add(owner)
        self.shown = self._show()

    def _unnamed(self, run: RunInfo) -> Owner:
        named = run if run.is_user_known else run._replace(user=str(run.key.uid))
        return owner_of(named, self._exported_labels)

    def fill(self, owner: Owner, carbon_ng: int) -> None:
        """Add late grams of a run that has left."""
        owner = owner if owner in self._sums else OTHER_OWNER
        if owner in self._sums:
            known_uj, known_ng = self._sums[owner]
            self._sums[owner] = known_uj, known_ng + carbon_ng
            self._changed.add(owner)
            self.shown = self._show()

    def take_changes(self) -> dict[Owner, tuple[int, int]]:
        """The sums that changed since the last call."""
        changed, self._changed = self._changed, set()
        return {owner: self._sums[owner] for owner in changed}

    def _show(self) -> tuple[tuple[Owner, int, int], ...]:
        return tuple([(owner, *sums) for owner, sums in self._sums.items()])
