"""Fifty deaths at random moments with runs open: each is recovered, nothing is lost or doubled."""

import random
import time
from dataclasses import dataclass

import pytest

from tests.real.fed import counted_uj, counters, fed_daemon, kept_uj, stepped_back
from tests.real.parts import again, spin, until

pytestmark = pytest.mark.beside

KILLS = 50
NAMES = 5
SHORT = again(2, spin(0.05))


@dataclass
class Story:
    """What was seen and kept."""

    pages: list[dict[str, float]]
    counted: dict[str, int]
    parts: dict[str, int]
    truth: dict[str, int]
    totals: dict[str, int]
    usage: dict[str, int]
    log: str
    measured: set[str]
    """Ids of the short runs that found a daemon when they began."""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, seeded: random.Random) -> Story:
    """A run is open all the time, and others begin, end and come back as the daemon dies."""
    root = tmp_path_factory.mktemp("kills")
    state = root / "daemon" / "state"
    with fed_daemon(root, state) as (host, daemon):
        pages = [counters(daemon)]
        runs = []
        for number in range(KILLS):
            run_id = f"short-{number % NAMES}"
            runs.append((run_id, daemon.run(f"--run-id={run_id}", "--", *SHORT)))
            time.sleep(seeded.uniform(0.0, 1.0))
            pages.append(counters(daemon))
            daemon.kill()
            daemon.start()
            pages.append(counters(daemon))
        measured = {name for name, run in runs if b"not measured" not in run.communicate()[1]}
        host.stop()
        until(lambda: counted_uj(daemon) == host.used_uj(), what="every microjoule is counted")
        pages.append(counters(daemon))
        parts = {}
        for name, device in daemon.devices().items():
            amounts = device["counted"]
            parts[name] = amounts["attributed_uj"] + sum(amounts["unattributed_uj"].values())
        counted = counted_uj(daemon)
    totals, usage = kept_uj(state, "total"), kept_uj(state, "usage")
    log = daemon.log()
    return Story(pages, counted, parts, host.used_uj(), totals, usage, log, measured)


def test_every_death_is_recovered_from_the_journal(story: Story) -> None:
    assert story.log.count("totals continue from the journal, no data is lost") == KILLS


def test_no_counter_steps_back_or_goes(story: Story) -> None:
    assert stepped_back(story.pages) == []


def test_every_microjoule_is_counted_once(story: Story) -> None:
    assert story.counted == story.truth


def test_the_parts_of_a_device_still_add_up_to_it(story: Story) -> None:
    assert story.parts == story.truth


def test_the_ledger_has_all_of_it_after_an_orderly_stop(story: Story) -> None:
    assert story.totals == story.truth


def test_every_minute_of_it_is_in_the_ledger(story: Story) -> None:
    assert story.usage == story.truth


def test_no_run_is_cut_off_by_a_death(story: Story) -> None:
    shown = {series for series in story.pages[-1] if "run_energy_joules_total" in series}
    assert story.measured
    for run_id in story.measured:
        assert any(f'run_id="{run_id}"' in series for series in shown)
