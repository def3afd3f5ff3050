"""What a scheduler gave takes the place of what processes are seen to hold."""

from exporter.attribute.attribution import Attribution
from exporter.attribute.sources.grants import Grant, Grants
from exporter.model.readings import Device, Interval, Kind, Method
from exporter.model.runs import RunKey
from exporter.model.workload import Holding, Sighting

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
