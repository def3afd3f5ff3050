"""The image at work: whichever user it is, with nothing that it does not need."""

import time

import pytest

from tests.deploy.image.conftest import engine, inspect
from tests.real.parts import get, until

STOP_SECONDS = 2.0


def test_uid_0_without_capabilities_counts_the_counters(make, powercap):
    container = make("--user=0").start()
    before = container.energy_uj("package-0")
    powercap.advance(7)
    until(lambda: container.energy_uj("package-0") == before + 700_000_000)
    assert b'method="counter"' in get(container.url + "/metrics")


def test_the_default_user_counts_counters_that_it_may_read(make, powercap, tmp_path):
    for counter in (tmp_path / "sys").rglob("energy_uj"):
        counter.chmod(0o444)
    container = make().start()
    before = container.energy_uj("package-0")
    powercap.advance(7)
    until(lambda: container.energy_uj("package-0") == before + 700_000_000)


def test_the_default_user_estimates_what_it_may_not_read(make, powercap):
    page = get(make().start().url + "/metrics").decode()
    estimated = [line for line in page.splitlines() if 'method="estimated"' in line]
    assert any("package-0" in line or "cpu" in line for line in estimated)


def test_the_engine_finds_it_healthy(make, powercap):
    container = make("--health-interval=1s").start()
    until(
        lambda: inspect(container.id)["State"]["Health"]["Status"] == "healthy", timeout_seconds=60
    )


@pytest.mark.parametrize("user", ["65532:65532", "0:0"])
def test_totals_go_on_after_a_stop(make, powercap, tmp_path, user):
    for counter in (tmp_path / "sys").rglob("energy_uj"):
        counter.chmod(0o444)
    container = make(f"--user={user}").start()
    powercap.advance(7)
    before = until(lambda: container.energy_uj("package-0"))
    began = time.monotonic()
    engine("stop", "--time=20", container.id)
    took_seconds = time.monotonic() - began
    assert inspect(container.id)["State"]["ExitCode"] == 0
    assert took_seconds < STOP_SECONDS
    container.remove()
    after = make(f"--user={user}").start()
    assert after.energy_uj("package-0") >= before > 0
    assert "not clean" not in engine("logs", after.id)
