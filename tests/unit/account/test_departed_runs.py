"""Sums of departed runs by owner."""

from exporter.account.departed_runs import MAX_OWNERS, OwnerTotals
from exporter.model.runs import OTHER_OWNER, Owner, RunInfo, RunKey

ADA = RunInfo(
    RunKey(1, "a", ""), "", "ada", "registered", 0.0, labels=(("team", "nlp"), ("x", "y"))
)


def test_runs_of_one_user_and_label_are_one_sum():
    owners = OwnerTotals({}, ("team",))
    owners.add(ADA, 5, 50)
    owners.add(ADA._replace(key=RunKey(1, "b", ""), labels=(("team", "nlp"),)), 2, 20)
    assert owners.totals == ((Owner("ada", "", (("team", "nlp"),)), 7, 70),)


def test_a_label_that_is_not_exported_makes_no_owner():
    owners = OwnerTotals({}, ())
    owners.add(ADA, 5, 50)
    owners.add(ADA._replace(labels=()), 2, 20)
    assert owners.totals == ((Owner("ada"), 7, 70),)


def test_sums_continue_from_what_was_restored():
    owners = OwnerTotals({Owner("ada"): (10, 100)}, ())
    owners.add(ADA, 5, 50)
    assert owners.totals == ((Owner("ada"), 15, 150),)


def test_only_what_changed_is_returned_once():
    owners = OwnerTotals({Owner("ada"): (10, 100), Owner("bob"): (1, 1)}, ())
    assert owners.pop_changes() == {}
    owners.add(ADA, 5, 50)
    assert owners.pop_changes() == {Owner("ada"): (15, 150)}
    assert owners.pop_changes() == {}


def test_owners_beyond_the_cap_are_one_and_those_before_it_continue():
    owners = OwnerTotals({Owner(f"user{n}"): (1, 1) for n in range(MAX_OWNERS)}, ())
    owners.add(ADA, 5, 50)
    owners.add(ADA._replace(user="user0"), 2, 20)
    sums = {owner: energy_uj for owner, energy_uj, _ in owners.totals}
    assert (sums[OTHER_OWNER], sums[Owner("user0")]) == (5, 3)


def test_a_run_stays_with_the_owner_that_it_came_with():
    owners = OwnerTotals({}, ("team",))
    first = ADA._replace(owner=owners.owner_for(ADA, None))
    renamed = ADA._replace(user="ada lovelace", labels=())
    assert owners.owner_for(renamed, first) == Owner("ada", "", (("team", "nlp"),))
    assert owners.owner_for(renamed, None) == Owner("ada lovelace")
