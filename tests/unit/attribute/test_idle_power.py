"""Idle power is learned only from idle minutes."""

from exporter.attribute.idle_power import (
    IdlePower,
    gpu_idle_energy_uj,
    idle_energy_uj,
    learn_gpu_idle_power,
    learn_idle_power,
)

SECOND = 1_000_000_000


def test_before_it_is_learned_the_unused_fraction_of_cpu_time_is_idle():
    assert idle_energy_uj(IdlePower(), 1_000, SECOND, busy_ratio=0.25) == 750


def test_an_idle_minute_sets_it_to_its_mean_power():
    floor = IdlePower()
    for _ in range(60):
        floor = learn_idle_power(floor, 40_000_000, SECOND, busy_ratio=0.04)
    assert floor == IdlePower(40.0)


def test_busy_intervals_are_ignored():
    floor = learn_idle_power(IdlePower(30.0), 400_000_000, 60 * SECOND, busy_ratio=0.06)
    assert floor == IdlePower(30.0)


def test_idle_energy_is_at_most_the_energy_of_the_interval():
    assert idle_energy_uj(IdlePower(40.0), 10_000_000, SECOND, busy_ratio=0.9) == 10_000_000
    assert idle_energy_uj(IdlePower(40.0), 90_000_000, SECOND, busy_ratio=0.9) == 40_000_000


def unoccupied(floor, *looks):
    """Idle power of a GPU after readings 5 s apart, each with the power in watts after it."""
    for number, watts in enumerate(looks, 1):
        for _ in range(5):
            idle_at = None if watts is None else number
            floor = learn_gpu_idle_power(floor, round((watts or 700) * 1e6), SECOND, idle_at)
    return floor.watts


def test_a_minute_without_a_process_sets_gpu_idle_power():
    assert unoccupied(IdlePower(), *[70] * 12) is None
    assert unoccupied(IdlePower(), *[70] * 13) == 70.0


def test_a_process_interrupts_the_idle_minute_of_a_gpu():
    assert unoccupied(IdlePower(), *[70] * 8, None, *[70] * 8) is None
    assert unoccupied(IdlePower(60.0), *[70] * 8, None, *[70] * 8) == 60.0


def test_energy_before_a_process_is_first_seen_is_not_learned():
    assert unoccupied(IdlePower(), *[70] * 11, 600, None) is None
    assert unoccupied(IdlePower(), *[70] * 12, 600, None) == 70.0


def test_all_energy_of_a_gpu_without_a_process_is_idle():
    assert gpu_idle_energy_uj(IdlePower(40.0), 90_000_000, SECOND, is_idle=True) == 90_000_000
    assert gpu_idle_energy_uj(IdlePower(40.0), 90_000_000, SECOND, is_idle=False) == 40_000_000
    assert gpu_idle_energy_uj(IdlePower(), 90_000_000, SECOND, is_idle=False) is None
