"""The live page."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.expose.live import LivePage
from exporter.expose.view import View
from exporter.model.runs import RunKey

VOID = {"meta", "link"}


class Reader(HTMLParser):
    """Collects texts and elements, and insists that what is opened is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        self.texts.append(data)


def render(snapshot):
    return LivePage().render(View(snapshot)).decode()


def read(snapshot):
    reader = Reader(render(snapshot))
    return reader, " ".join(" ".join(reader.texts).split())


def test_an_empty_machine_is_shown(made):
    _, text = read(made.snapshot())
    assert "No energy source can be read" in text
    assert "No run is open" in text
    assert "Emissions stand still: no intensity is known" in text


def test_the_machine_is_summed_up(made):
    _, text = read(made.gpu_node())
    assert "Power now 150 W 3 of 4 devices" in text
    assert "1.11 kWh since the ledger began" in text
    assert "344 g/kWh DE, lifecycle" in text


def test_runs_have_what_a_person_asks_for(made):
    _, text = read(made.gpu_node())
    assert (
        "bert name of bert 42 ada a1 open 312 W 1.11 kWh 400 kg 80000 % of 500 g"
        in text.replace("\u202f", "")
    )
    assert "2 h 0 min" in text
    assert "ended exited" in text


def test_what_is_broken_is_said_on_top(made):
    _, text = read(made.gpu_node())
    assert "gpu 0: no reading for 0.250 s: the driver does not answer" in text
    assert "rapl: dram is estimated on this machine" in text
    assert text.index("the driver does not answer") < text.index("Devices")


def test_ailments_of_the_daemon_are_said(made):
    health = made.Health(ledger_why="disk full", imbalance_uj=3, series_dropped=4)
    _, text = read(made.snapshot(health=health))
    assert "could not be written: disk full" in text
    assert "out of balance by 3" in text
    assert "4 runs are shown together" in text


def test_an_ailment_of_the_daemon_stands_out_before_all_else(made):
    text = render(made.gpu_node()._replace(health=made.Health(ledger_why="disk full")))
    warnings = text[text.index("<ul") :]
    said = "The ledger could not be written: disk full"
    assert warnings.startswith(f'<ul class="warnings"><li class="grave">{said}</li><li>')


def test_each_cell_carries_its_head_for_narrow_screens(made):
    reader, _ = read(made.gpu_node())
    heads = [a.get("data-head") for name, a in reader.elements if name == "td"]
    assert all(heads)
    assert heads[:4] == ["Device", "Power", "Last hour", "Energy"]


def test_what_is_estimated_is_said(made):
    _, text = read(made.gpu_node())
    assert "estimated no reading could be had: a model of the hardware, not a measurement" in text


def test_collectors_have_their_remedy(made):
    _, text = read(made.gpu_node())
    assert "nvml does not work 0 s no driver; install it" in text


def test_live_sources_say_how_they_fare_and_the_second_intensity_stands_beside_the_first(made):
    _, text = read(made.snapshot(grid=made.live_grid()))
    assert "PPA 2026 average, unstated, market" in text
    assert "electricity_maps DE does not work 9 unauthorized 2 1 min 0 s ago answered 401" in text
    assert "uk GB stands by 0 never" in text


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=30) | st.sampled_from(["<script>alert(1)</script>", '"><b>', "&lt;", "'"]))
def test_hostile_texts_stay_texts(made, hostile):
    run = made.run(
        RunKey(1, hostile, hostile), name=hostile + "n", user=hostile, account=hostile, ended=1.0
    )
    state = made.state(made.CPU, up=False, why=hostile, info={"model": hostile, "ordinal": hostile})
    collector = made.CollectorState(hostile, ok=False, seconds=0.0, why=hostile)
    grid = made.GridState(made.FACTOR._replace(zone=hostile, source=hostile), 1.0, hostile)
    calm = made.run(RunKey(1, "a", "a"), ended=1.0)
    shape = [
        name
        for name, _ in read(
            made.snapshot(
                runs=(calm,),
                devices=(made.state(made.CPU, up=False, why="a"),),
                collectors=(made.CollectorState("a", ok=False, seconds=0.0, why="a"),),
                grid=made.GridState(made.FACTOR, 1.0, "a"),
                notes=("a",),
            )
        )[0].elements
    ]
    reader, _ = read(
        made.snapshot(
            node=hostile,
            runs=(run,),
            devices=(state,),
            collectors=(collector,),
            grid=grid,
            notes=(hostile,),
        )
    )
    assert [name for name, _ in reader.elements] == shape


def test_the_policy_lets_through_exactly_what_the_page_brings(made):
    text = render(made.gpu_node())
    for directive, element in (("style-src", "style"), ("script-src", "script")):
        (content,) = re.findall(f"<{element}>(.*?)</{element}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in LivePage().policy


def test_nothing_is_fetched_from_elsewhere(made):
    reader, _ = read(made.gpu_node())
    links = [a[k] for _, a in reader.elements for k in ("href", "src") if k in a]
    assert all(link.startswith(("/", "data:,")) for link in links)
    assert not [a for _, a in reader.elements if "style" in a]


@pytest.mark.parametrize(("interval", "period"), [(0.1, "1000"), (1.0, "1000"), (5.0, "5000")])
def test_browsers_come_again_every_tick_but_not_oftener_than_each_second(made, interval, period):
    reader, _ = read(made.snapshot(interval_seconds=interval))
    (main,) = [a for name, a in reader.elements if name == "main"]
    assert main["data-interval-ms"] == period
