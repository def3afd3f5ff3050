"""The live page in a real browser: it moves, it is readable, and it asks nobody but its daemon."""

import json
import re
import shutil

import pytest

from tests.real.parts import Daemon, until

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>alert(1)</script>&amp;"
HOST = {
    "host": "page",
    "period_seconds": 8,
    "threads": 16,
    "memory_total_bytes": 1 << 35,
    "devices": [
        {"kind": kind, "id": id_, "model": model, "vendor": "Intel", "watts": [[0, low], [4, high]]}
        | {"power_cap_watts": 410, "wrap_uj": 262143328851}
        for kind, id_, model, low, high in (
            ("cpu", "package-0", "Intel(R) Xeon(R) Gold 6246R CPU @ 3.40GHz", 60, 160),
            ("dram", "package-0-dram", "", 10, 25),
        )
    ],
    "workload": [
        {"run_id": run_id, "job_id": "", "name": "", "user": "ada", "labels": {}}
        | {"starts": 0, "ends": 8, "cpu": [[0, 1], [4, 7]], "memory_bytes": 1 << 32}
        for run_id in ("waves", HOSTILE, "a-run-id-of-many-letters-" * 5)
    ],
}
"""A host whose power goes up and down every eight seconds."""
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TEXTS = """
() => {
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return colour;
    }
  };
  const own = (element) => [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  return [...document.body.querySelectorAll("*:not(script)")]
    .filter((element) => own(element) && element.checkVisibility())
    .map((element) => [element.textContent, getComputedStyle(element).color, behind(element)]);
}
"""
"""Every piece of text, its colour, and the colour behind it."""
READABLE = 4.5
"""Least contrast of text, WCAG 2.2, success criterion 1.4.3."""


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium on this machine: `make tools` as root installs Debian's")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts a daemon that plays the host."""
    daemons = []

    def start():
        directory = tmp_path_factory.mktemp("page")
        (directory / "host.json").write_text(json.dumps(HOST))
        (directory / "config.yaml").write_text(f"sample: {{replay: {directory}/host.json}}\n")
        daemons.append(Daemon(directory, f"--config.file={directory}/config.yaml"))
        return daemons[-1].start()

    yield start
    for daemon in daemons:
        daemon.stop()


@pytest.fixture(scope="module")
def daemon(start):
    """One that has seen some seconds."""
    daemon = start()
    until(lambda: daemon.devices()["package-0"]["counted"]["energy_uj"])
    return daemon


@pytest.fixture
def visit(browser):
    """Opens a page in a window of its own; what it complains of is gathered in `complaints`."""
    contexts = []

    def visit(daemon, **settings):
        context = browser.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        page.complaints, page.requested = [], []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("dialog", lambda dialog: page.complaints.append(dialog.message))
        page.on("request", lambda request: page.requested.append(request.url))
        page.goto(daemon.url)
        return page

    yield visit
    for context in contexts:
        context.close()


def row(page, run_id):
    return page.locator("section", has_text="Runs").locator(
        "tr", has=page.get_by_text(run_id, exact=True)
    )


def other_than(page, look, before):
    """What the page says as soon as that is not what it said before."""

    def changed():
        page.wait_for_timeout(50)  # lets the browser's events in
        now = look()
        return [now] if now != before else []

    return until(changed)[0]


def test_a_run_draws_other_watts_as_time_goes_on_and_the_browser_has_no_complaint(daemon, visit):
    page = visit(daemon)
    watts = row(page, "waves").locator("td[data-head=Power]")
    seen = watts.inner_text()
    for _ in range(3):
        assert re.fullmatch(r"[\d.]+ W", seen)
        seen = other_than(page, watts.inner_text, seen)
    assert page.complaints == []


def test_title_is_the_power_and_the_node(daemon, visit):
    page = visit(daemon)
    before = page.title()
    assert re.fullmatch(r"[\d.]+ W · \S+", before)
    other_than(page, page.title, before)


def test_nothing_is_asked_of_any_other_host(daemon, visit):
    page = visit(daemon)
    other_than(page, lambda: len(page.requested) > 3, before=False)
    hosts = {url.split("/")[2] for url in page.requested if not url.startswith("data:")}
    assert hosts == {f"127.0.0.1:{daemon.port}"}


def test_without_scripts_devices_and_runs_are_there_and_the_page_comes_again(daemon, visit):
    page = visit(daemon, java_script_enabled=False)
    assert page.get_by_text("cpu package-0", exact=True).is_visible()
    assert row(page, "waves").is_visible()
    other_than(page, lambda: len(page.requested) > 1, before=False)
    assert page.complaints == []


@pytest.mark.parametrize("width", [390, 700, 704, 1100])
def test_nothing_is_wider_than_the_window(daemon, visit, width):
    page = visit(daemon, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(daemon, visit, scheme):
    page = visit(daemon, color_scheme=scheme)
    texts = page.evaluate(TEXTS)
    assert len(texts) > 50
    faint = [(text, colour) for text, colour, paper in texts if contrast(colour, paper) < READABLE]
    assert faint == []


def test_dark_is_dark_and_light_is_light(daemon, visit):
    papers = [
        luminance(visit(daemon, color_scheme=scheme).evaluate(TEXTS)[0][2])
        for scheme in ("light", "dark")
    ]
    assert papers[0] > 0.8
    assert papers[1] < 0.02


def test_hostile_run_id_is_shown_as_text_and_nothing_else(daemon, visit):
    page = visit(daemon)
    assert row(page, HOSTILE).is_visible()
    assert page.locator("img").count() == 0
    other_than(page, page.title, page.title())
    assert page.locator("img").count() == 0
    assert "owned" not in page.title()
    assert page.complaints == []


def test_page_greys_out_while_its_daemon_is_away_and_comes_back_with_it(start, visit):
    daemon = start()
    page = visit(daemon)
    stale = page.locator("body.stale")
    assert stale.count() == 0
    daemon.kill()
    other_than(page, stale.count, 0)
    assert row(page, "waves").is_visible()
    daemon.start()
    other_than(page, stale.count, 1)


def luminance(colour):
    """Relative luminance of an `rgb(...)`, by WCAG 2.2."""
    channels = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)
