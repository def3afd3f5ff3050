"""What a scheduler gave takes the place of what processes are seen to hold."""

from exporter.attribute.attribution import Attribution
from exporter.attribute.sources.grants import Grant, Grants, on_instances
from exporter.attribute.split_gpu import split_gpu
from exporter.model.readings import (
    Device,
    Interval,
    Kind,
    Method,
    Occupancy,
    Occupant,
    Partition,
)
from exporter.model.runs import RunKey
from exporter.model.workload import Holding, Reason, Sighting

GPU = Device(Kind.GPU, "GPU-1")
POD, STEP, OTHER = (RunKey(1, name, "") for name in ("pod", "step", "other"))
GRANT = Grant(POD, GPU.id, 1, 2, since_ns=5)


def is_in(run, whole):
    return run == whole or (run, whole) == (STEP, POD)


def held(*used):
    return set(Grants(is_in).merge(used, [GRANT], {}, at_ns=9))


def test_a_grant_is_held_with_nobody_there():
    assert held() == {Holding(GPU, POD, "", 1, 2, since_ns=5)}


def test_a_process_that_was_there_before_the_scheduler_was_heard_held_it_already():
    assert held(Holding(GPU, POD, since_ns=3)) == {Holding(GPU, POD, "", 1, 2, since_ns=3)}
    assert held(Holding(GPU, POD, since_ns=7)) == {Holding(GPU, POD, "", 1, 2, since_ns=5)}


def test_a_server_that_was_there_before_holds_nothing_for_its_run():
    server = Holding(GPU, POD, since_ns=3, serves=True)
    assert held(server) == {Holding(GPU, POD, "", 1, 2, since_ns=5)}


def test_a_run_inside_holds_it_while_its_process_is_there():
    assert held(Holding(GPU, STEP, since_ns=3)) == {Holding(GPU, STEP, "", 1, 2, since_ns=3)}


def test_what_a_stranger_uses_is_held_beside_it():
    stranger = Holding(GPU, OTHER, since_ns=1)
    assert held(stranger) == {stranger, Holding(GPU, POD, "", 1, 2, since_ns=5)}


def test_what_is_taken_back_was_held_until_then():
    grants = Grants(is_in)
    grants.merge((), [GRANT], {}, at_ns=9)
    ended = Holding(GPU, POD, "", 1, 2, since_ns=5, until_ns=12)
    assert grants.merge((), (), {}, at_ns=12) == (ended,)
    assert grants.merge((), (), {}, at_ns=15) == ()


def test_what_is_handed_on_was_held_until_the_next_one_got_it():
    grants = Grants(is_in)
    grants.merge((), [GRANT], {}, at_ns=9)
    ended, new = grants.merge((), [Grant(OTHER, GPU.id, since_ns=10)], {}, at_ns=12)[::-1]
    assert (new.run, new.since_ns, new.until_ns) == (OTHER, 10, None)
    assert (ended.run, ended.since_ns, ended.until_ns) == (POD, 5, 10)


def test_who_comes_to_share_a_device_ends_no_other_holding():
    grants = Grants(is_in)
    grants.merge((), [GRANT], {}, at_ns=9)
    both = grants.merge((), [GRANT, Grant(OTHER, GPU.id, 1, 2, since_ns=10)], {}, at_ns=12)
    assert [row.until_ns for row in both] == [None, None]


def test_a_device_that_could_not_be_read_meanwhile_is_paid_by_each_for_its_time():
    grants, attribution = Grants(is_in), Attribution({})
    second = 1_000_000_000
    first, next_one = Grant(POD, GPU.id), Grant(OTHER, GPU.id, since_ns=4 * second)
    for at, given in ((1, [first]), (4, []), (5, [next_one]), (9, [next_one])):
        rows = grants.merge((), given, {}, at_ns=at * second)
        attribution.shares([], [GPU], Sighting(at * second, (), None, None, rows), {})
    rows = grants.merge((), [next_one], {}, at_ns=10 * second)
    interval = Interval(GPU, 0, 10 * second, 1_000, Method.COUNTER)
    seen = Sighting(10 * second, (), None, None, rows)
    ((_, shares),) = attribution.shares([interval], [GPU], seen, {})
    assert {share.party: share.energy_uj for share in shares} == {POD: 400, OTHER: 600}


class TestMigInstancesWithoutUuid:
    """Three slices of seven each, of which nobody says which instance they are."""

    GRANTS = tuple(Grant(run, GPU.id, 1, 1, 5, slices=3, slices_of=7) for run in (POD, OTHER))
    PARTS = tuple(Partition(f"MIG-{n}", size, None, (n, 0)) for n, size in ((1, 3), (2, 3), (3, 1)))

    def test_each_run_pays_for_one_of_two_whose_floor_it_shares(self):
        rows = on_instances(self.GRANTS, {GPU: Occupancy(GPU, 1, (), self.PARTS, 7)})
        assert {(row.run, row.gpu, row.units, row.units_of) for row in rows} == {
            (run, part, 1, 2) for run in (POD, OTHER) for part in ("MIG-1", "MIG-2")
        }

    def test_what_was_given_by_its_uuid_is_not_one_of_them(self):
        named = Grant(STEP, "MIG-1")
        look = {GPU: Occupancy(GPU, 1, (), self.PARTS, 7)}
        assert on_instances([self.GRANTS[0], named], look) == [
            named,
            Grant(POD, "MIG-2", 1, 1, 5),
        ]

    def test_until_the_driver_shows_them_each_run_holds_its_slices_of_the_gpu(self):
        rows = on_instances(self.GRANTS, {})
        assert [(row.gpu, row.units, row.units_of) for row in rows] == [(GPU.id, 3, 7)] * 2

    def test_two_sizes_of_one_run_are_as_many_slices(self):
        grants = [self.GRANTS[0], self.GRANTS[0]._replace(slices=2, units=2, since_ns=3)]
        assert on_instances(grants, {}) == [Grant(POD, GPU.id, 7, 7, 3)]

    def test_each_pays_for_its_part_and_what_its_processes_do(self):
        look = Occupancy(
            GPU,
            0,
            (Occupant(10, "MIG-1"), Occupant(11, "MIG-2")),
            tuple(
                part._replace(active=active)
                for part, active in zip(self.PARTS, (0.9, 0.3, 0.0), strict=True)
            ),
            7,
            coverage=1.0,
        )
        grants = [grant._replace(since_ns=0) for grant in self.GRANTS]
        rows = Grants(is_in).merge((), grants, {GPU: look}, at_ns=9)
        sighting = Sighting(9, (), None, holdings=rows, owners={10: POD, 11: OTHER})
        interval = Interval(GPU, 0, 1_000, 14_000, Method.COUNTER)
        shares = {
            share.party: share.energy_uj for share in split_gpu(interval, 7_000, sighting, look)
        }
        assert shares == {POD: 3_000 + 5_250, OTHER: 3_000 + 1_750, Reason.UNALLOCATED: 1_000}
