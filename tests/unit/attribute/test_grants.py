"""Grants of schedulers are merged with the holdings of processes."""

from exporter.attribute.attribution import Attribution
from exporter.attribute.sources.gpu_holdings import GpuGrant, GpuGrants, resolve_mig_grants
from exporter.attribute.split_gpu import split_gpu
from exporter.model.readings import (
    Device,
    DeviceKind,
    GpuActivity,
    GpuProcess,
    Interval,
    Method,
    Partition,
)
from exporter.model.runs import RunKey
from exporter.model.workload import GpuHolding, UnattributedReason, WorkloadSample

GPU = Device(DeviceKind.GPU, "GPU-1")
POD, STEP, OTHER = (RunKey(1, name, "") for name in ("pod", "step", "other"))
GRANT = GpuGrant(POD, GPU.id, 1, 2, since_ns=5)


def is_in(run, whole):
    return run == whole or (run, whole) == (STEP, POD)


def held(*used):
    return set(GpuGrants(is_in).merge(used, [GRANT], {}, at_ns=9))


def test_a_grant_is_held_without_a_process():
    assert held() == {GpuHolding(GPU, POD, "", 1, 2, since_ns=5)}


def test_a_process_from_before_the_grant_was_known_extends_the_holding():
    assert held(GpuHolding(GPU, POD, since_ns=3)) == {GpuHolding(GPU, POD, "", 1, 2, since_ns=3)}
    assert held(GpuHolding(GPU, POD, since_ns=7)) == {GpuHolding(GPU, POD, "", 1, 2, since_ns=5)}


def test_a_proxy_from_before_the_grant_does_not_extend_the_holding():
    server = GpuHolding(GPU, POD, since_ns=3, is_proxy=True)
    assert held(server) == {GpuHolding(GPU, POD, "", 1, 2, since_ns=5)}


def test_an_inner_run_holds_the_grant_while_it_has_a_process():
    assert held(GpuHolding(GPU, STEP, since_ns=3)) == {GpuHolding(GPU, STEP, "", 1, 2, since_ns=3)}


def test_a_run_without_a_grant_holds_beside_the_grant():
    stranger = GpuHolding(GPU, OTHER, since_ns=1)
    assert held(stranger) == {stranger, GpuHolding(GPU, POD, "", 1, 2, since_ns=5)}


def test_a_withdrawn_grant_ends_the_holding():
    grants = GpuGrants(is_in)
    grants.merge((), [GRANT], {}, at_ns=9)
    ended = GpuHolding(GPU, POD, "", 1, 2, since_ns=5, until_ns=12)
    assert grants.merge((), (), {}, at_ns=12) == (ended,)
    assert grants.merge((), (), {}, at_ns=15) == ()


def test_a_transferred_grant_is_held_until_the_next_holding_starts():
    grants = GpuGrants(is_in)
    grants.merge((), [GRANT], {}, at_ns=9)
    ended, new = grants.merge((), [GpuGrant(OTHER, GPU.id, since_ns=10)], {}, at_ns=12)[::-1]
    assert (new.run, new.since_ns, new.until_ns) == (OTHER, 10, None)
    assert (ended.run, ended.since_ns, ended.until_ns) == (POD, 5, 10)


def test_an_additional_holder_ends_no_other_holding():
    grants = GpuGrants(is_in)
    grants.merge((), [GRANT], {}, at_ns=9)
    both = grants.merge((), [GRANT, GpuGrant(OTHER, GPU.id, 1, 2, since_ns=10)], {}, at_ns=12)
    assert [row.until_ns for row in both] == [None, None]


def test_after_a_gap_each_holder_is_charged_for_its_time():
    grants, attribution = GpuGrants(is_in), Attribution({})
    second = 1_000_000_000
    first, next_one = GpuGrant(POD, GPU.id), GpuGrant(OTHER, GPU.id, since_ns=4 * second)
    for at, given in ((1, [first]), (4, []), (5, [next_one]), (9, [next_one])):
        rows = grants.merge((), given, {}, at_ns=at * second)
        attribution.shares([], [GPU], WorkloadSample(at * second, (), None, None, rows), {})
    rows = grants.merge((), [next_one], {}, at_ns=10 * second)
    interval = Interval(GPU, 0, 10 * second, 1_000, Method.COUNTER)
    seen = WorkloadSample(10 * second, (), None, None, rows)
    ((_, shares),) = attribution.shares([interval], [GPU], seen, {})
    assert {share.target: share.energy_uj for share in shares} == {POD: 400, OTHER: 600}


class TestMigInstancesWithoutUuid:
    """Grants of three of seven slices without the UUIDs of the instances."""

    GRANTS = tuple(GpuGrant(run, GPU.id, 1, 1, 5, slices=3, slices_of=7) for run in (POD, OTHER))
    PARTS = tuple(Partition(f"MIG-{n}", size) for n, size in ((1, 3), (2, 3), (3, 1)))

    def test_each_run_is_charged_for_one_of_two_instances(self):
        rows = resolve_mig_grants(self.GRANTS, {GPU: GpuActivity(GPU, 1, (), self.PARTS, 7)})
        assert {(row.run, row.gpu, row.units, row.units_of) for row in rows} == {
            (run, part, 1, 2) for run in (POD, OTHER) for part in ("MIG-1", "MIG-2")
        }

    def test_instances_granted_by_uuid_are_not_candidates(self):
        named = GpuGrant(STEP, "MIG-1")
        look = {GPU: GpuActivity(GPU, 1, (), self.PARTS, 7)}
        assert resolve_mig_grants([self.GRANTS[0], named], look) == [
            named,
            GpuGrant(POD, "MIG-2", 1, 1, 5),
        ]

    def test_before_the_driver_lists_instances_each_run_holds_slices_of_the_gpu(self):
        rows = resolve_mig_grants(self.GRANTS, {})
        assert [(row.gpu, row.units, row.units_of) for row in rows] == [(GPU.id, 3, 7)] * 2

    def test_instances_of_two_sizes_of_a_run_add_up_their_slices(self):
        grants = [self.GRANTS[0], self.GRANTS[0]._replace(slices=2, units=2, since_ns=3)]
        assert resolve_mig_grants(grants, {}) == [GpuGrant(POD, GPU.id, 7, 7, 3)]

    def test_each_run_is_charged_for_its_part_and_the_activity_of_its_processes(self):
        look = GpuActivity(
            GPU,
            0,
            (GpuProcess(10, "MIG-1"), GpuProcess(11, "MIG-2")),
            tuple(
                part._replace(active=active)
                for part, active in zip(self.PARTS, (0.9, 0.3, 0.0), strict=True)
            ),
            7,
            coverage=1.0,
        )
        grants = [grant._replace(since_ns=0) for grant in self.GRANTS]
        rows = GpuGrants(is_in).merge((), grants, {GPU: look}, at_ns=9)
        sighting = WorkloadSample(9, (), None, holdings=rows, run_of_pid={10: POD, 11: OTHER})
        interval = Interval(GPU, 0, 1_000, 14_000, Method.COUNTER)
        shares = {
            share.target: share.energy_uj for share in split_gpu(interval, 7_000, sighting, look)
        }
        assert shares == {
            POD: 3_000 + 5_250,
            OTHER: 3_000 + 1_750,
            UnattributedReason.UNALLOCATED: 1_000,
        }
