"""A real daemon with live sources of intensity that come, go and lie."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.grid.prometheus import Series
from tests.grid.server import GridServer
from tests.real.parts import Daemon, get, until

pytestmark = [pytest.mark.real, pytest.mark.beside]

TOKEN = "s3cr3t+token/with=signs"
MAX_AGE_SECONDS = 10
"""Several times as long as a busy machine takes to ask."""
LOOKS = 30
GRAMS = "emissions_device_carbon_grams_total"
JOULES = "emissions_device_energy_joules_total"
INTENSITY = "emissions_grid_intensity_grams_per_kwh"
STEP = "emissions_grid_intensity_fallback_step"


class Scene:
    """A daemon with two sources that count the same."""

    def __init__(self, directory: Path, ends: ExitStack) -> None:
        self.first, self.second = Series(100), Series(300)
        self.proxy_pids = [GridServer(self.first), GridServer(self.second)]
        for server in self.proxy_pids:
            ends.callback(server.stop)
        token = directory / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        options = {
            "query": "intensity",
            "basis": "lifecycle",
            "token_file": str(token),
            "refresh_seconds": 1,
            "step_seconds": 1,
            "max_age_seconds": MAX_AGE_SECONDS,
        }
        sources = [{"prometheus": {"url": server.url, **options}} for server in self.proxy_pids]
        config = directory / "config.json"
        settings = {"convert": {"zone": "DE", "sources": sources}, "account": {"commit_seconds": 1}}
        config.write_text(json.dumps(settings))
        self.daemon = Daemon(directory / "daemon", f"--config.file={config}", "--log.level=debug")
        ends.callback(self.daemon.stop)
        self.daemon.start()

    def metric(self, name: str) -> float | None:
        """The sum of a family; None where it is absent."""
        page = get(self.daemon.url + "/metrics").decode()
        found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE)
        return sum(map(float, found)) if found else None

    def asked(self) -> list[int]:
        return [len(server.asked) for server in self.proxy_pids]

    def why(self) -> str:
        return str(self.daemon.json("/api/v1/intensity")["why"])


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with ExitStack() as ends:
        made = Scene(tmp_path_factory.mktemp("grid"), ends)
        until(lambda: made.metric(INTENSITY) == 100, what="the first source is in force")
        yield made


@pytest.fixture(autouse=True)
def well(scene: Scene) -> Iterator[None]:
    """Each test leaves both sources well."""
    yield
    scene.first.status = scene.second.status = 200
    restart(scene)
    until(lambda: scene.metric(INTENSITY) == 100, what="the first source is in force again")


def restart(scene: Scene) -> None:
    """A daemon that knows of no failure: nobody waits here for the end of a back-off."""
    scene.daemon.stop()
    scene.daemon.start()


def test_a_source_that_stands_by_is_not_asked(scene: Scene) -> None:
    before = scene.asked()
    until(lambda: scene.asked()[0] >= before[0] + 3, what="the first is asked again")
    assert scene.asked()[1] == before[1]


def test_when_the_first_dies_the_next_stands_in_within_a_refresh_and_says_so(scene: Scene) -> None:
    scene.first.status = 500
    until(lambda: scene.metric(INTENSITY) == 300, what="the second is in force")
    assert scene.metric(STEP) == 1
    assert "prometheus has no value" in scene.why()
    assert "answered 500" in scene.why()
    page = get(scene.daemon.url + "/").decode()
    assert "answered 500" in page
    assert (
        'emissions_collector_success{collector="intensity_prometheus"} 0.0'
        in get(scene.daemon.url + "/metrics").decode()
    )


def test_with_all_of_them_dead_grams_stand_still_and_energy_goes_on(scene: Scene) -> None:
    scene.first.status = scene.second.status = 403
    until(lambda: scene.metric(INTENSITY) is None, what="nothing is in force")
    grams, joules = scene.metric(GRAMS), scene.metric(JOULES)
    scene.daemon.pass_ticks(3)
    assert joules is not None
    assert scene.metric(GRAMS) == grams
    assert (scene.metric(JOULES) or 0) > joules
    assert "carbon counter does not increase" in scene.why()
    assert "carbon counter does not increase" in get(scene.daemon.url + "/").decode()


def test_no_token_reaches_log_metrics_page_interface_or_arguments(scene: Scene) -> None:
    scene.first.status = 401  # the server sends back what it was given
    until(lambda: "401" in scene.daemon.log(), what="the refusal is logged")
    paths = ("/metrics", "/", "/api/v1/intensity", "/api/v1/snapshot")
    shown = [get(scene.daemon.url + path).decode() for path in paths]
    assert scene.proxy_pids[0].asked[-1].headers["authorization"] == f"Bearer {TOKEN}"
    for text in (*shown, scene.daemon.log(), arguments()):
        assert TOKEN not in text
        assert "s3cr3t" not in text


def arguments() -> str:
    """Of all processes at many moments, at one of which a source is being asked."""
    looks: list[str] = []

    def look() -> bool:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                found.append(path.read_text())
        looks.append("\n".join(found))
        return len(looks) >= LOOKS and any("exporter.convert.live" in each for each in looks)

    until(look, what="a source is being asked")
    return "\n".join(looks)
