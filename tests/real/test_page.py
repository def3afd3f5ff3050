"""The pages in a real browser: they move, they are readable, and they ask only their daemon."""

import json
import re
import shutil

import pytest

from tests.real.browser import FLAGS, TEXTS, faint, luminance
from tests.real.parts import Daemon, get, until

pytestmark = pytest.mark.beside

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>alert(1)</script>&amp;"
ODD = "a/b%2F..?x=1#é '\"</script>\u202eright\u0007"
LONG = "a-run-id-of-many-letters-" * 5
MANY = 200
SOUGHT = "sweep-137"
NAMES = {"4f1c": "warm up"}
"""Names of runs that are not called by their ids."""


def host(run_ids):
    """A host whose power goes up and down every eight seconds, with these runs."""
    devices = [
        {"kind": kind, "id": id_, "model": model, "vendor": "Intel", "watts": [[0, low], [4, high]]}
        | {"power_cap_watts": 410, "wrap_uj": 262143328851}
        for kind, id_, model, low, high in (
            ("cpu", "package-0", "Intel(R) Xeon(R) Gold 6246R CPU @ 3.40GHz", 60, 160),
            ("dram", "package-0-dram", "", 10, 25),
        )
    ]
    workload = [
        {
            "run_id": run_id,
            "job_id": "",
            "name": NAMES.get(run_id, ""),
            "user": "ada",
            "labels": {"team": "nlp"},
        }
        | {"starts": 0, "ends": 8, "cpu": [[0, 1], [4, 7]], "memory_bytes": 1 << 25}
        for run_id in run_ids
    ]
    return {
        "host": "page",
        "period_seconds": 8,
        "threads": 16,
        "memory_total_bytes": 1 << 35,
        "devices": devices,
        "workload": workload,
    }


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
    """Starts a daemon that plays a host with these runs."""
    daemons = []

    def start(*run_ids, name="host"):
        directory = tmp_path_factory.mktemp("page")
        (directory / f"{name}.json").write_text(json.dumps(host(run_ids)))
        (directory / "config.yaml").write_text(f"sample: {{replay: {directory}/{name}.json}}\n")
        daemons.append(Daemon(directory, f"--config.file={directory}/config.yaml"))
        return daemons[-1].start()

    yield start
    for daemon in daemons:
        daemon.stop()


@pytest.fixture(scope="module")
def daemon(start):
    """One that has seen some seconds."""
    daemon = start("waves", HOSTILE, ODD, LONG)
    until(lambda: daemon.devices()["package-0"]["counted"]["energy_uj"])
    return daemon


@pytest.fixture(scope="module")
def crowded(start):
    """One with as many runs as it shows."""
    return start(*(f"sweep-{number:03}" for number in range(MANY)))


@pytest.fixture
def visit(browser):
    """Opens a page in a window of its own; what it complains of is gathered in `complaints`."""
    contexts = []

    def visit(daemon, path="/", **settings):
        context = browser.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        page.complaints, page.requested = [], []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("dialog", lambda dialog: page.complaints.append(dialog.message))
        page.on("request", lambda request: page.requested.append(request.url))
        page.goto(daemon.url + path)
        return page

    yield visit
    for context in contexts:
        context.close()


def row(page, run_id):
    return page.locator("#runs tr", has=page.get_by_text(run_id, exact=True))


def shown(page):
    """The ids of the runs that are to be seen."""
    return page.locator("#runs tbody tr:visible th a").all_inner_texts()


def other_than(page, look, before):
    """What the page says as soon as that is not what it said before."""

    def changed():
        page.wait_for_timeout(50)  # lets the browser's events in
        now = look()
        return [now] if now != before else []

    return until(changed)[0]


def wide(page):
    return page.evaluate("document.documentElement.scrollWidth")


def test_a_run_draws_other_watts_as_time_goes_on_and_the_browser_has_no_complaint(daemon, visit):
    page = visit(daemon)
    watts = row(page, "waves").locator("td[data-head=Power]")
    seen = watts.inner_text()
    for _ in range(3):
        assert re.fullmatch(r"[\d.]+ W", seen)
        seen = other_than(page, watts.inner_text, seen)
    assert page.complaints == []


def test_the_page_of_a_run_moves_as_well(daemon, visit):
    page = visit(daemon, "/runs/waves")
    energy = page.locator(".figures b").first
    other_than(page, energy.inner_text, energy.inner_text())
    assert page.complaints == []


def test_title_is_the_power_and_the_node(daemon, visit):
    page = visit(daemon)
    before = page.title()
    assert re.fullmatch(r"[\d.]+ W · host · emissions-exporter", before)
    other_than(page, page.title, before)


@pytest.mark.parametrize("path", ["/", "/runs/waves", "/runs"])
def test_nothing_is_asked_of_any_other_host(daemon, visit, path):
    page = visit(daemon, path)
    before = len(page.requested)
    if page.locator("main").get_attribute("data-seconds"):  # else it is of what is over
        other_than(page, lambda: len(page.requested) > before, before=False)
    hosts = {url.split("/")[2] for url in page.requested}
    assert hosts == {f"127.0.0.1:{daemon.port}"}
    assert page.complaints == []


def test_an_injected_script_does_not_run(daemon, visit):
    page = visit(daemon)
    page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "document.title = 'owned'";
          document.body.append(script);
          const image = document.createElement("img");
          image.setAttribute("onerror", "document.title = 'owned'");
          image.src = "/nothing";
          document.body.append(image);
        }"""
    )
    other_than(page, lambda: len(page.complaints) >= 2, before=False)
    assert page.title() != "owned"
    assert all("Content Security Policy" in text or "404" in text for text in page.complaints)


def test_text_that_is_marked_stays_marked_and_the_page_says_that_it_waits(daemon, visit):
    page = visit(daemon)
    waiting = page.locator("#waiting")
    page.locator("h1").dblclick()
    said = other_than(page, waiting.inner_text, "")
    assert re.match(r"Text is selected since \d\d:\d\d:\d\d UTC", said)
    assert page.evaluate("String(getSelection())")
    before = page.title()
    page.evaluate("getSelection().removeAllRanges()")
    other_than(page, page.title, before)
    assert waiting.inner_text() == ""


def test_without_scripts_devices_and_runs_are_there(daemon, visit):
    page = visit(daemon, java_script_enabled=False)
    assert page.get_by_text("cpu package-0", exact=True).is_visible()
    assert row(page, "waves").is_visible()
    assert page.complaints == []


def test_without_scripts_the_page_comes_again_but_leaves_time_to_type(daemon, visit):
    def hurried(route):
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace('content="30"', 'content="2"'))

    page = visit(daemon, java_script_enabled=False)
    (again,) = re.findall(r'http-equiv="refresh" content="(\d+)"', page.content())
    assert int(again) == 30
    page.route(daemon.url + "/", hurried)
    page.goto(daemon.url)
    before = len(page.requested)
    other_than(page, lambda: len(page.requested) > before, before=False)


def test_without_scripts_a_run_is_found_by_the_form_and_its_receipt_is_a_link_away(crowded, visit):
    page = visit(crowded, java_script_enabled=False)
    page.get_by_label("Search runs").fill(SOUGHT)
    page.get_by_role("button", name="Search", exact=True).click()
    assert shown(page) == [SOUGHT]
    page.get_by_role("link", name=SOUGHT).click()
    with page.expect_download() as download:
        page.get_by_role("link", name="text", exact=True).click()
    assert download.value.suggested_filename == f"emissions-{SOUGHT}.txt"


def test_a_run_is_found_among_many_while_it_is_typed_and_its_receipt_is_its_record(crowded, visit):
    page = visit(crowded)
    assert len(shown(page)) == MANY
    field = page.get_by_label("Search runs")
    field.press_sequentially("SWEEP 137")
    assert shown(page) == [SOUGHT]
    assert page.locator("#found").inner_text() == f"1 of {MANY} on this page"
    assert page.url.endswith("?q=SWEEP+137")
    other_than(page, page.title, page.title())
    assert shown(page) == [SOUGHT]
    assert field.evaluate("element => element === document.activeElement")
    page.get_by_role("link", name=SOUGHT).click()
    with page.expect_download() as download:
        page.get_by_role("link", name="JSON").click()
    assert download.value.suggested_filename == f"emissions-{SOUGHT}.json"
    with open(download.value.path(), encoding="utf-8") as file:
        record = json.load(file)
    assert record["run_id"] == SOUGHT
    assert record["energy_uj"] == sum(part["energy_uj"] for part in record["parts"]) > 0
    assert page.complaints == []


def test_a_search_that_is_cleared_shows_all_runs_again(crowded, visit):
    page = visit(crowded, f"/?q={SOUGHT}")
    assert shown(page) == [SOUGHT]
    page.get_by_label("Search runs").fill("")
    other_than(page, lambda: len(shown(page)), 1)
    assert len(shown(page)) == MANY


def test_focus_stays_where_it_is_while_the_numbers_change(daemon, visit):
    page = visit(daemon)
    page.get_by_role("link", name="waves").focus()
    other_than(page, page.title, page.title())
    assert page.evaluate("document.activeElement.textContent") == "waves"


@pytest.mark.parametrize("path", ["/", "/runs/waves", "/runs", "/runs/nobody"])
@pytest.mark.parametrize("width", [360, 390, 890, 900, 1100])
def test_nothing_is_wider_than_the_window(daemon, visit, width, path):
    page = visit(daemon, path, viewport={"width": width, "height": 800})
    assert wide(page) == width


@pytest.mark.parametrize("width", [320, 400, 1400])
def test_a_word_that_is_longer_than_the_window_breaks(start, visit, width):
    run_id = LONG.replace("-", "_")
    long = start(run_id, name="https_www_example_org_docs_methodology_" * 4)
    for path in ("/", f"/runs/{run_id}", "/runs"):
        page = visit(long, path, viewport={"width": width, "height": 800})
        assert wide(page) == width


@pytest.mark.parametrize("path", ["/", "/runs/waves"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(daemon, visit, scheme, path):
    page = visit(daemon, path, color_scheme=scheme)
    texts = page.evaluate(TEXTS)
    assert len(texts) > 50
    assert faint(texts) == []


def test_dark_is_dark_and_light_is_light(daemon, visit):
    papers = [
        luminance(visit(daemon, color_scheme=scheme).evaluate(TEXTS)[0][2])
        for scheme in ("light", "dark")
    ]
    assert papers[0] > 0.8
    assert papers[1] < 0.02


def test_a_hostile_run_id_is_shown_as_text_and_nothing_else(daemon, visit):
    page = visit(daemon)
    assert row(page, HOSTILE).is_visible()
    other_than(page, page.title, page.title())
    page.get_by_role("link", name=HOSTILE).click()
    page.wait_for_load_state()
    assert page.locator("h1").inner_text() == HOSTILE
    other_than(page, lambda: len(page.requested) > 8, before=False)
    assert page.locator("img").count() == 0
    assert "owned" not in page.title().split(" ")[0]
    assert page.complaints == []


@pytest.mark.parametrize("run_id", [ODD, LONG], ids=["odd", "long"])
def test_an_odd_run_id_has_a_page_and_a_receipt(daemon, visit, run_id):
    said = run_id.replace("\u202e", "\ufffd").replace("\u0007", "\ufffd")
    page = visit(daemon, viewport={"width": 360, "height": 800})
    page.get_by_role("link", name=said[:40]).click()
    page.wait_for_load_state()
    assert page.locator("h1").inner_text().startswith(said[:100])
    assert wide(page) == 360
    with page.expect_download() as download:
        page.get_by_role("link", name="JSON").click()
    assert re.fullmatch(r"emissions-[A-Za-z0-9_-]+\.json", download.value.suggested_filename)
    assert page.complaints == []


@pytest.mark.parametrize("width", [400, 1400])
def test_the_id_of_a_run_is_beside_its_name(start, visit, width):
    page = visit(start("4f1c"), "/runs/4f1c", viewport={"width": width, "height": 800})
    title = page.get_by_role("heading", name="warm up").bounding_box()
    run_id = page.locator("header p", has_text="4f1c").bounding_box()
    moment = page.locator("header time").bounding_box()
    assert 0 < run_id["x"] - (title["x"] + title["width"]) < 40
    assert moment["x"] > width / 2


def test_every_table_has_a_name_and_every_drawing_words(daemon, visit):
    page = visit(daemon, "/")
    assert page.locator("table:not(:has(caption))").count() == 0
    assert page.locator("tbody tr:not(:has(th[scope=row]))").count() == 0
    assert page.locator("svg:not([aria-label]):not([aria-hidden])").count() == 0


@pytest.mark.parametrize("path", ["/", "/runs/waves"])
def test_a_page_says_that_it_waits_while_its_daemon_is_away_and_goes_on_with_it(start, visit, path):
    daemon = start("waves")
    page = visit(daemon, path)
    waiting = page.locator("#waiting")
    assert waiting.inner_text() == ""
    daemon.kill()
    said = other_than(page, waiting.inner_text, "")
    assert re.match(r"No response since \d\d:\d\d:\d\d UTC", said)
    assert page.get_by_text("waves", exact=True).is_visible()
    daemon.start()
    other_than(page, waiting.inner_text, said)
    before = page.title()
    other_than(page, page.title, before)


def test_many_searches_leave_the_metrics_alone(crowded):
    for words in range(100):
        assert b"on this page" in get(f"{crowded.url}/?q={words}")
    assert b"emissions_run_power_watts" in get(f"{crowded.url}/metrics")
