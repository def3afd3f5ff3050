"""The idle floor is learned from quiet minutes only."""

from exporter.attribute.floor import Floor, idle_uj, learn

SECOND = 1_000_000_000


def test_until_it_is_known_the_unused_part_of_cpu_time_is_idle():
    assert idle_uj(Floor(), 1_000, SECOND, busy_share=0.25) == 750


def test_a_quiet_minute_sets_it_to_its_mean_power():
    floor = Floor()
    for _ in range(60):
        floor = learn(floor, 40_000_000, SECOND, busy_share=0.04)
    assert floor == Floor(40.0)


def test_busy_intervals_teach_nothing():
    floor = learn(Floor(30.0), 400_000_000, 60 * SECOND, busy_share=0.06)
    assert floor == Floor(30.0)


def test_a_known_floor_never_takes_more_than_there_is():
    assert idle_uj(Floor(40.0), 10_000_000, SECOND, busy_share=0.9) == 10_000_000
    assert idle_uj(Floor(40.0), 90_000_000, SECOND, busy_share=0.9) == 40_000_000
