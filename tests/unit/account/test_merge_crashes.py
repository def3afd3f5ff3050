"""Merges of provisional runs while daemon, disk and power fail as in test_crashes."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from exporter.model.runs import Owner, RunMerge, owner_of
from tests.unit.account.making import key, run, shown
from tests.unit.account.test_crashes import Crashes, counted, names


class MergeCrashes(Crashes):
    """`bert` and `gpt` are of one owner, `clip` of another; who owns `bert` is said at its end."""

    def info(self, name, **changes):
        made = run(name, owner=None, namespace="b" if name == "clip" else "a", **changes)
        return made._replace(is_provisional=name == "bert" and made.ended is None)

    def party_of(self, target):
        return self.books._merges.resolve(target)

    @rule(old=names, new=names, is_counted=st.booleans())
    def merge(self, old, new, is_counted):
        if old == new or not {key(old), key(new)} <= {r.key for r in shown(self.books)}:
            return
        before = counted(self.books.rows())
        if not self.books.merge(RunMerge(key(old), key(new), is_counted)):
            assert {key(old), key(new)} & {
                *self.questions,
                *(stored_run.key for stored_run in self.answers),
            }
            return
        after = counted(self.books.rows())
        assert after["device"] == before["device"]
        assert after.get(key(new), 0) >= before.get(key(new), 0)
        assert key(old) not in after
        if key(old) in self.posted:
            self.posted[key(new)] = self.posted.get(key(new), 0) + self.posted.pop(key(old))
        self.on_page.discard(key(old))
        self.open.discard(key(old))
        self.tick()

    @invariant()
    def each_run_on_the_page_is_of_its_owner_once_that_is_known(self):
        for info in shown(self.books):
            owner = self.books.owner_of().get(info.key)
            assert owner in (None, owner_of(info, ()))
            assert owner is not None or (info.is_provisional and info.ended is None)

    def counted_of_owners(self):
        """As the page has it: nothing of a run whose owner is not known."""
        owner_of = self.books.owner_of()
        sums = {owner: energy_uj for owner, energy_uj, _ in self.books.owners()}
        for row in self.books.rows():
            if row.target in owner_of:
                owner = owner_of[row.target]
                sums[owner] = sums.get(owner, 0) + row.balance.counted.energy_uj
        if not self.is_beginning:
            assert all(sums[owner] >= value for owner, value in self.of_owners.items())
        self.of_owners = sums
        assert set(sums) <= {Owner("ada", "a"), Owner("ada", "b"), Owner("other")}
        return sum(sums.values())


MergeCrashes.TestCase.settings = settings(stateful_step_count=40, deadline=None)
TestMergeCrashes = MergeCrashes.TestCase
