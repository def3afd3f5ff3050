"""A record of many nodes, made of what a Prometheus was told to answer."""

import re

import pytest

from exporter.errors import SourceError
from exporter.report.fleet import fleet_record, fleet_records, has_series
from exporter.report.forms.text import receipt
from exporter.report.prometheus_queries import (
    CARBON_METRIC,
    ENERGY_METRIC,
    HELD_IDLE_METRIC,
    START_METRIC,
    UNITS_METRIC,
    PrometheusApi,
    RunSelector,
)
from tests.grid.server import GridServer, document

AT = 1_000_000.0
DAY = 86_400.0
A, B = "a", "b"


class Prometheus:
    """Answers each function over each metric with the rows that were given for it."""

    def __init__(self):
        self.rows = {}
        """By metric, and the function or the window that it is asked with."""
        self.infos = []
        self.grids = []
        self.names = ["emissions_run_info"]
        self.queries = []

    def __call__(self, asked):
        query = asked.query.get("query", "")
        if asked.path.endswith("/series"):
            data = self.infos
        elif asked.path.endswith("/values"):
            data = self.names
        else:
            self.queries.append(query)
            data = {"resultType": "vector", "result": [self._row(row) for row in self._rows(query)]}
        return document({"status": "success", "data": data})

    def _rows(self, query):
        if query == "vector(time())":
            return [({}, AT)]
        if query.startswith("count by"):
            return self.grids
        match = re.search(r"\((?:(\w+_over_time)\()?(?:timestamp\()?([\w:]+){", query)
        return self.rows.get((match[1], match[2], "timestamp" in query), []) if match else []

    @staticmethod
    def _row(row):
        labels, value = row
        return {"metric": labels, "value": [AT, repr(value)]}

    def say(self, name, rows, how="max_over_time", stamp=False):
        self.rows[how, name, stamp] = [(self.of(*labels), value) for *labels, value in rows]

    @staticmethod
    def of(node, device="", id="", run_id="bert", job_id="7"):  # noqa: A002
        found = {"instance": node, "run_id": run_id, "job_id": job_id, "device": device, "id": id}
        return {name: value for name, value in found.items() if value}

    def ends(self, node, end, now=True):
        """A node shows that the run ended, or did so once."""
        for how in (None, "last_over_time") if now else ("last_over_time",):
            rows = self.rows.setdefault((how, "emissions_run_end_time_seconds", False), [])
            rows.append((self.of(node), end))

    def shows(self, *nodes):
        """Nodes show the run now."""
        for how in (None, "last_over_time"):
            self.say(START_METRIC.raw, [(node, 100.0) for node in nodes], how)


@pytest.fixture
def there():
    prometheus = Prometheus()
    for node in (A, B):
        info = {"run_name": "", "user": "ada", "label_team": "nlp", "origin": "registered"}
        prometheus.infos.append({**prometheus.of(node), **info})
    energy = [(A, "cpu", "", 10.5), (A, "gpu", "G1", 100.25), (A, "gpu", "G2", 50.0)]
    prometheus.say(ENERGY_METRIC.recorded, [*energy, (B, "cpu", "", 20.000001)])
    prometheus.say(CARBON_METRIC.recorded, [(A, "cpu", "", 0.5), (B, "cpu", "", 0.25)])
    prometheus.say(HELD_IDLE_METRIC.recorded, [(A, "gpu", "", 30.0), (B, "cpu", "", 1.0)])
    prometheus.say(START_METRIC.recorded, [(A, 100.0), (B, 90.0)])
    prometheus.shows(A, B)
    prometheus.ends(A, 200.0)
    prometheus.ends(B, 210.0)
    prometheus.server = GridServer(prometheus)
    prometheus.api = PrometheusApi(prometheus.server.url)
    yield prometheus
    prometheus.server.stop()


def record(there, since=DAY, **wanted):
    return fleet_record(there.api, RunSelector(**(wanted or {"run_id": "bert"})), since)


def test_the_energy_of_all_devices_of_all_nodes_is_added_up_exactly(there):
    found = record(there)
    assert found["energy_uj"] == 180_750_001
    assert found["carbon_ng"] == 750_000_000
    assert found["held_uj"] == 31_000_000
    assert sum(part["energy_uj"] for part in found["parts"]) == found["energy_uj"]


def test_a_record_says_its_boundary(there):
    assert record(there)["boundary"] == {
        "source": "prometheus",
        "since": AT - DAY,
        "lower_bound": True,
        "from_rules": True,
        "nodes": [A, B],
        "nodes_running": [],
        "nodes_lost": [],
        "devices": ["cpu", "gpu"],
        "grids": [],
    }


def test_it_says_whose_it_is(there):
    found = record(there)
    assert (found["user"], found["job_id"], found["labels"]) == ("ada", "7", {"team": "nlp"})


def test_what_several_gpus_of_a_node_were_held_idle_is_known_of_all_of_them_only(there):
    held = {(p["node"], p["device"], p["id"]): p["held_uj"] for p in record(there)["parts"]}
    assert held[A, "gpu", "G1"] is None
    assert held[B, "cpu", ""] == 1_000_000
    assert held[A, "cpu", ""] == 0


def test_it_lasted_from_the_first_start_to_the_last_end(there):
    found = record(there)
    assert (found["started"], found["ended"], found["duration_seconds"]) == (90.0, 210.0, 120.0)


def test_a_node_that_shows_no_end_is_running(there):
    for how in (None, "last_over_time"):
        there.rows[how, "emissions_run_end_time_seconds", False].pop()
    found = record(there)
    assert (found["ended"], found["boundary"]["nodes_running"]) == (None, [B])
    assert found["duration_seconds"] == AT - 90.0


def test_a_run_that_began_again_is_running_though_it_once_ended(there):
    there.rows[None, "emissions_run_end_time_seconds", False].pop()
    assert record(there)["boundary"]["nodes_running"] == [B]


def test_a_node_that_went_away_without_an_end_is_lost_and_the_time_is_its_last_sight(there):
    there.shows(A)
    there.rows["last_over_time", "emissions_run_end_time_seconds", False].pop()
    there.say(START_METRIC.raw, [(A, 150.0), (B, 400.0)], stamp=True)
    found = record(there)
    assert (found["ended"], found["boundary"]["nodes_lost"]) == (None, [B])
    assert found["duration_seconds"] == 400.0 - 90.0


def test_a_node_that_left_the_page_after_its_end_has_ended(there):
    there.rows[None, START_METRIC.raw, False] = there.rows[
        "last_over_time", START_METRIC.raw, False
    ] = []
    there.rows[None, "emissions_run_end_time_seconds", False] = []
    assert record(there)["ended"] == 210.0


def test_what_rules_have_not_seen_yet_is_taken_from_the_counters(there):
    there.say(ENERGY_METRIC.raw, [(A, "cpu", "", 11.0)])
    assert record(there)["energy_uj"] == 181_250_001


def test_the_counters_are_read_over_all_the_time_only_where_rules_missed_a_node(there):
    def long_looks():
        there.queries.clear()
        found = record(there)
        whole = f'{ENERGY_METRIC.raw}{{run_id="bert"}}[{DAY:.0f}s]'
        return found["boundary"]["from_rules"], any(whole in query for query in there.queries)

    assert long_looks() == (True, False)
    there.rows["max_over_time", ENERGY_METRIC.recorded, False].pop()
    assert long_looks() == (False, True)


def test_units_of_all_nodes_are_added_up(there):
    key = ("max_over_time", UNITS_METRIC.recorded, False)
    there.rows[key] = [({**there.of(node), "unit": "tokens"}, 5) for node in (A, B)]
    assert record(there)["units"] == {"tokens": 10.0}


def test_several_runs_are_named_by_what_was_asked_for(there):
    more = (there.of(B, "cpu", run_id="gpt"), 1.0)
    there.rows["max_over_time", ENERGY_METRIC.recorded, False].append(more)
    found = record(there, job_id="7")
    assert (found["run_id"], found["runs"]) == ("all 2 of job 7", 2)


def test_only_runs_of_the_user_are_asked_for(there):
    record(there, user="ada")
    asked = [query for query in there.queries if ENERGY_METRIC.recorded in query]
    assert all("and on (instance, run_id, job_id)" in query for query in asked)
    assert all('user="ada"' in query for query in asked)


@pytest.mark.parametrize("field", RunSelector._fields)
def test_every_filter_selects_energy_and_intensities(there, field):
    record(there, **{field: "chosen"})
    for metric in (ENERGY_METRIC.recorded, CARBON_METRIC.recorded, "emissions_grid_intensity"):
        asked = [query for query in there.queries if metric in query]
        assert asked
        assert all('"chosen"' in query for query in asked)


def test_runs_of_a_namespace_are_chosen_by_what_is_said_of_them(there):
    record(there, namespace="nlp")
    asked = [query for query in there.queries if ENERGY_METRIC.recorded in query]
    assert all("and on (instance, run_id, job_id)" in query for query in asked)
    assert all('workload_namespace="nlp"' in query for query in asked)


def test_an_id_cannot_leave_its_quotes(there):
    there.rows.clear()
    with pytest.raises(SourceError, match="has no run"):
        record(there, run_id='x"} or vector(1) #\\')
    assert all('run_id="x\\"} or vector(1) #\\\\"' in query for query in there.queries[1:])


def test_a_run_that_is_not_known_there_is_an_error(there):
    there.rows.clear()
    with pytest.raises(SourceError, match="has no run of id bert, job 7 in the last 1 d"):
        record(there, run_id="bert", job_id="7")


def test_a_prometheus_without_any_of_our_metrics_says_so(there):
    there.rows.clear()
    there.names = []
    with pytest.raises(SourceError, match="has no emissions_ metrics"):
        record(there)
    with pytest.raises(SourceError, match="has no emissions_ metrics"):
        has_series(there.api, 'emissions_run_info{user="ada"}', DAY)


def test_a_selector_matches_if_any_series_does(there):
    assert has_series(there.api, 'emissions_run_info{user="ada"}', DAY)
    asked = there.server.asked[-1].query
    assert asked["match[]"] == 'emissions_run_info{user="ada"}'
    assert (float(asked["start"]), float(asked["end"])) == (AT - DAY, AT)


def test_a_receipt_says_where_it_comes_from_and_what_may_be_missing(there):
    there.grids = [({"grid_zone": "DE", "basis": "lifecycle", "source": "a table"}, 2)]
    assert receipt(record(there)).splitlines() == [
        "Run bert (job 7)",
        "  took       2 min 0 s",
        "  energy     181 J (0.0502 Wh)",
        "  held idle  31.0 J (0.00861 Wh)",
        "  emitted    0.750 g CO2eq",
        "  cpu        30.5 J (0.00847 Wh)",
        "  gpu        150 J (0.0417 Wh) of 2 GPUs",
        "  intensity  14\u202f938 g/kWh on average, PUE included; DE, lifecycle; a table",
        "  counted    cpu, gpu of the nodes; not network, disks, fans",
        "  seen on    2 nodes: a, b; Prometheus does not know the run's nodes",
        "  read from  Prometheus, since 1970-01-11 13:46:40; a lower bound if a node lost power",
    ]


def test_a_receipt_says_where_it_runs_and_which_nodes_were_lost(there):
    found = record(there)
    found["boundary"] |= {"nodes_running": [A], "nodes_lost": [B]}
    text = receipt(found)
    assert "  running    on node a\n" in text
    assert "  lost       node b: no longer scraped, end unknown\n" in text


def apart(there, **wanted):
    return {run["run_id"]: run for run in fleet_records(there.api, RunSelector(**wanted), DAY)}


def test_each_run_has_a_record_of_its_own_and_one_alone_is_as_it_was(there):
    there.grids = [({"instance": A, "grid_zone": "DE"}, 1.0)]
    alone = record(there)
    more = (there.of(B, "cpu", run_id="gpt"), 1.0)
    there.rows["max_over_time", ENERGY_METRIC.recorded, False].append(more)
    found = apart(there)
    assert found["gpt"]["energy_uj"] == 1_000_000
    assert found["gpt"]["boundary"]["grids"] == []
    assert found["bert"]["boundary"]["grids"] == [{"grid_zone": "DE"}]
    same = {name: value for name, value in alone.items() if name != "boundary"}
    assert {name: found["bert"][name] for name in same} == same


def test_a_run_that_was_lost_is_lost_among_others_too(there):
    there.shows(A)
    there.rows["last_over_time", "emissions_run_end_time_seconds", False].pop()
    there.say(START_METRIC.raw, [(A, 150.0), (B, 400.0)], stamp=True)
    assert apart(there)["bert"]["boundary"]["nodes_lost"] == [B]


def test_many_runs_cost_no_more_questions_than_one(there):
    apart(there)
    once = len(there.queries)
    there.queries.clear()
    more = [(there.of(B, "cpu", run_id=f"run-{number}"), 1.0) for number in range(50)]
    there.rows["max_over_time", ENERGY_METRIC.recorded, False] += more
    assert len(apart(there)) == 51
    assert len(there.queries) <= once + 1


@pytest.mark.parametrize(("grams", "is_over"), [(0.5, True), (100.0, None)])
def test_the_budget_of_a_run_is_that_of_all_its_nodes(there, grams, is_over):
    there.say("emissions_run_budget_grams", [(A, grams), (B, grams)], "last_over_time")
    found = record(there)
    assert (found["budget_grams"], found["budget_exceeded"]) == (grams, is_over)
    said = "exceeded by 0.250 g: " if is_over else "at least 0.750 g of 100 g used"
    assert said in receipt(found)


def test_several_runs_have_no_budget_together(there):
    there.say("emissions_run_budget_grams", [(A, 1.0)], "last_over_time")
    for name in (
        ENERGY_METRIC.raw,
        CARBON_METRIC.raw,
        ENERGY_METRIC.recorded,
        CARBON_METRIC.recorded,
    ):
        rows = there.rows.get(("max_over_time", name, False), [])
        rows += [({**labels, "run_id": "gpt"}, value) for labels, value in rows]
    assert record(there)["budget_grams"] is None
