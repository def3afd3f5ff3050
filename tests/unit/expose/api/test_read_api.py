"""The read API."""

import json
import threading
from urllib.parse import quote

import pytest

from exporter.errors import LedgerError
from exporter.expose.api import read_api
from exporter.expose.http.web_service import MAX_PENDING_OF_CLIENT, MAX_PENDING_QUERIES
from exporter.model.ledger import Amount
from exporter.model.readings import Device, DeviceKind, Method
from exporter.model.record import RecordPart, RunFilter, RunTotals, UsageInterval
from exporter.model.runs import RunKey
from exporter.model.workload import SplitMethod


def refused(response):
    return response.status, json.loads(response.content)["error"]


@pytest.fixture
def record(made):
    return made.record


def ids(answer):
    return [run["run_id"] for run in answer["runs"]]


@pytest.fixture
def choked(site):
    """A site whose queue of archive queries is full, since the archive does not respond."""
    site.archive.go.clear()
    clients = [
        f"127.0.0.{2 + number // MAX_PENDING_OF_CLIENT}" for number in range(MAX_PENDING_QUERIES)
    ]
    waiting = [site.connect(client) for client in clients]
    for connection in waiting:
        connection.sendall(b"GET /api/v1/runs HTTP/1.1\r\nHost: h\r\n\r\n")
    while len(site.web._executors[0]._open) < MAX_PENDING_QUERIES:
        site.get("/-/ready")
    yield site
    for connection in waiting:
        connection.close()


class TestRuns:
    def test_are_the_shown_and_the_archived_newest_first(self, site, made, record):
        site.archive.records = [
            record(RunKey(1, "newest", ""), started=made.WALL),
            record(RunKey(1, "oldest", ""), started=1.0),
        ]
        assert ids(site.json("/api/v1/runs")) == ["newest", "bert", "old", "oldest"]

    def test_come_once_as_they_are_now(self, site, made, record):
        site.archive.records = [record(made.BERT)]
        (bert,) = [r for r in site.json("/api/v1/runs")["runs"] if r["run_id"] == "bert"]
        assert bert["energy_uj"] == 4_000_007_250_058

    def test_can_be_limited(self, site):
        assert len(site.json("/api/v1/runs?limit=1")["runs"]) == 1

    @pytest.mark.parametrize("limit", ["0", "-1", "x", "", "1001", "1e3", "9" * 5000])
    def test_refuse_a_limit_that_is_none(self, site, limit):
        status, error = refused(site.get(f"/api/v1/runs?limit={limit}"))
        assert (status, error) == (400, f"limit={limit}: expected a number from 1 to 1000")

    @pytest.mark.parametrize("limit", [1, 2, 3, 5, 1000])
    def test_come_each_once_page_by_page(self, site, made, record, limit):
        keys = [RunKey(1, f"r{n}", job) for n in range(3) for job in ("", "7")]
        site.archive.records = [record(key, started=5.0) for key in keys]
        site.archive.records += [record(made.BERT, started=made.WALL - 9)]
        found, after = [], ""
        while after is not None:
            path = f"/api/v1/runs?limit={limit}" + (f"&after={quote(after)}" if after else "")
            answer = site.json(path)
            found += [(run["run_id"], run["job_id"]) for run in answer["runs"]]
            after = answer["next"]
        assert len(found) == len(set(found)) == 8
        assert [job for name, job in found if name == "r1"] == ["", "7"]

    @pytest.mark.parametrize(
        "after", ["x", "5", "[]", "[1,2,3]", '["x",1,"",""]', "[1e999,1,2,3,4]"]
    )
    def test_refuse_a_place_that_is_none(self, site, after):
        status, error = refused(site.get(f"/api/v1/runs?after={quote(after)}"))
        assert (status, error.endswith("expected the value of `next` in a previous response")) == (
            400,
            True,
        )

    def test_are_added_up_but_for_those_of_the_page(self, site, made):
        amount = Amount(5, 1, 7)
        part = RecordPart(Device(DeviceKind.CPU, "p"), Method.COUNTER, SplitMethod.CPU_TIME, amount)
        whole = RunTotals("ada", 9, ("ada",), ("n1",), 1.0, 2.0, 3.0, (part,), (), ())
        site.archive.kept_sums = [whole]
        answer = site.json("/api/v1/runs?by=user&user=ada&since=0.5")
        assert [(each["name"], each["runs"], each["energy_uj"]) for each in answer["sums"]] == [
            ("ada", 9, 5)
        ]
        ((by, since, wanted, excluded),) = site.archive.added_up
        assert (by, since, wanted) == ("user", 0.5, RunFilter(user="ada"))
        assert made.BERT in excluded
        assert len(excluded) == 2

    def test_that_are_added_up_began_at_a_time_or_later(self, site, made):
        late = site.json(f"/api/v1/runs?by=user&since={made.WALL + 1}")
        assert late["runs"] == []
        ((*_, excluded),) = site.archive.added_up
        assert made.BERT in excluded

    def test_refuse_to_be_added_up_by_what_is_not_known(self, site):
        status, error = refused(site.get("/api/v1/runs?by=node"))
        assert (status, error) == (400, "by=node: expected job, group, user, namespace, account")

    def test_that_are_open_can_be_had_without_the_archive(self, site):
        site.archive.error = LedgerError("the disk is gone")
        assert ids(site.json("/api/v1/runs?state=open")) == ["bert"]

    def test_refuse_a_state_that_is_not_known(self, site):
        assert refused(site.get("/api/v1/runs?state=late"))[0] == 400

    def test_say_that_the_ledger_is_broken(self, site):
        site.archive.error = LedgerError("the disk is gone")
        assert refused(site.get("/api/v1/runs")) == (503, "the disk is gone")

    @pytest.mark.parametrize("query", ["", "?state=open"])
    def test_are_spelled_beside_the_web_thread(self, site, monkeypatch, query):
        original, spellers = read_api.json_bytes, []

        def counted(value):
            spellers.append(threading.current_thread())
            return original(value)

        monkeypatch.setattr(read_api, "json_bytes", counted)
        site.json(f"/api/v1/runs{query}")
        assert spellers[0] is not site.thread

    def test_are_refused_beyond_a_few_questions_that_wait(self, choked):
        refused = choked.get("/api/v1/runs")
        assert (refused.status, refused.getheader("Retry-After")) == (503, "1")
        assert b"too many ledger queries are waiting (limit 16)" in refused.content

    def test_that_hang_do_not_delay_a_scrape(self, choked):
        assert choked.get("/metrics", accept_encoding="gzip").status == 200


class TestRun:
    def test_is_found_by_its_id(self, site):
        answer = site.json("/api/v1/runs/bert")
        assert (answer["run_id"], answer["job_id"]) == ("bert", "42")

    def test_has_exact_integers_beside_floats(self, site):
        answer = site.json("/api/v1/runs/bert")
        assert answer["energy_uj"] == 4_000_007_250_058
        assert answer["carbon_ng"] == 400_000_725_005_800
        assert answer["energy_joules"] == pytest.approx(4_000_007.250058)

    def test_is_found_by_an_id_with_any_characters(self, site, made):
        key = RunKey(1, "a/b ?#é%", "")
        site.board.publish(made.snapshot(runs=(made.run(key),)))
        path = "/api/v1/runs/a%2Fb%20%3F%23%C3%A9%25"
        assert site.json(path)["run_id"] == "a/b ?#é%"

    def test_is_found_in_the_archive(self, site, record):
        site.archive.records = [record(RunKey(1, "past", ""), ended=5.0)]
        assert site.json("/api/v1/runs/past")["ended"] == 5.0

    def test_of_a_job_is_found_by_both(self, site, made, record):
        runs = tuple(made.run(RunKey(1, "a", job)) for job in ("1", "2"))
        site.board.publish(made.snapshot(runs=runs))
        assert site.json("/api/v1/runs/a?job_id=1")["job_id"] == "1"

    def test_of_a_job_may_be_in_the_archive_while_another_is_shown(self, site, made, record):
        site.archive.records = [record(RunKey(1000, "bert", "41"))]
        assert site.json("/api/v1/runs/bert?job_id=41")["job_id"] == "41"

    def test_that_is_open_goes_before_one_that_ended(self, site, made):
        runs = (
            made.run(RunKey(1, "a", "open"), started=1.0),
            made.run(RunKey(1, "a", "ended"), started=2.0, ended=3.0),
        )
        site.board.publish(made.snapshot(runs=runs))
        assert site.json("/api/v1/runs/a")["job_id"] == "open"

    @pytest.mark.parametrize("query", ["", "?job_id=7"])
    def test_that_nobody_knows_is_not_found(self, site, query):
        status, error = refused(site.get(f"/api/v1/runs/nobody{query}"))
        assert status == 404
        assert "'nobody'" in error


def test_the_parts_of_every_device_add_up_exactly(site):
    for device in site.json("/api/v1/devices")["devices"]:
        for sums in (device["counted"], device["cumulative"]):
            rest = sum(sums["unattributed_uj"].values())
            assert sums["energy_uj"] == sums["attributed_uj"] + rest
            assert sums["energy_uj"] == sum(sums["by_method_uj"].values())
            rest = sum(sums["unattributed_ng"].values())
            assert sums["carbon_ng"] == sums["attributed_ng"] + rest


def test_a_device_has_metadata_and_state(site, made):
    cpu, _, _, gpu1 = site.json("/api/v1/devices")["devices"]
    assert (cpu["device"], cpu["id"], cpu["up"], cpu["power_watts"]) == (
        "cpu",
        "package-0",
        True,
        50,
    )
    assert cpu["read_at"] == made.WALL - 0.25
    assert cpu["events"] == {"wrap": 2, "gap": 0}
    assert (gpu1["up"], gpu1["why"]) == (False, "the driver does not answer")
    assert gpu1["power_watts"] is None


def test_counted_leaves_out_what_came_before(site):
    cpu = site.json("/api/v1/devices")["devices"][0]
    assert cpu["cumulative"]["energy_uj"] - cpu["counted"]["energy_uj"] == 2_000_002


def test_a_device_never_read_has_no_reading_time(site, made):
    state = made.state(made.CPU, age_seconds=float("inf"), up=False)
    site.board.publish(made.snapshot(devices=(state,)))
    (cpu,) = site.json("/api/v1/devices")["devices"]
    assert (cpu["age_seconds"], cpu["read_at"]) == (None, None)


def test_the_intensity_can_be_defended(site):
    answer = site.json("/api/v1/intensity")
    assert answer["why"] == "yearly mean of DE, Ember 2025"
    assert answer["factor"]["grams_per_kwh"] == 344.0
    assert answer["factor"]["valid_until"] is None


def test_without_an_intensity_there_is_a_reason(site, made):
    site.board.publish(made.snapshot())
    answer = site.json("/api/v1/intensity")
    assert (answer["factor"], answer["why"]) == (None, "no intensity is known")


def test_the_snapshot_has_every_account_balance(site, made):
    answer = site.json("/api/v1/snapshot")
    snapshot = made.gpu_node()
    assert len(answer["lines"]) == len(snapshot.rows)
    assert answer["lines"][0]["party"] == {"uid": 1000, "run_id": "bert", "job_id": "42"}
    assert answer["lines"][2]["party"] == {"departed": True}
    assert answer["lines"][3]["party"] == {"reason": "idle"}
    assert answer["lines"][0]["counted"]["energy_uj"] == 5_000_002


def test_the_snapshot_has_health_collectors_and_notes(site):
    answer = site.json("/api/v1/snapshot")
    assert answer["health"]["loop_seconds"] == 0.004
    assert answer["collectors"][1]["why"] == "no driver; install it"
    assert answer["notes"] == ["rapl: dram is estimated on this machine"]


CPU, GPU = Device(DeviceKind.CPU, "package-0"), Device(DeviceKind.GPU, "GPU-1")


class TestSeries:
    def intervals(self, site, made, minutes):
        now = made.WALL // 60 * 60
        site.archive.intervals = [
            UsageInterval(now - 60 * ago, device, made.BERT, Amount(60_000_000, 6_000_000, 9))
            for ago in minutes
            for device in (CPU, GPU)
        ]

    def test_is_what_a_run_used_in_each_minute_of_the_last_hour(self, site, made):
        self.intervals(site, made, [90, 2, 1])
        series = site.json("/api/v1/runs/bert/series")
        assert (series["run_id"], series["step_seconds"]) == ("bert", 60)
        assert [point["power_watts"] for point in series["points"]] == [2.0, 2.0]
        assert series["points"][0]["energy_uj_by_device"] == {"cpu": 60_000_000, "gpu": 60_000_000}

    def test_may_be_of_any_time(self, site, made):
        self.intervals(site, made, [90, 2, 1])
        since = made.WALL - 2 * 3600
        series = site.json(f"/api/v1/runs/bert/series?since={since}&until={made.WALL - 3600}")
        assert len(series["points"]) == 1

    def test_of_more_than_a_day_is_by_the_hour(self, site, made):
        series = site.json(f"/api/v1/runs/bert/series?since={made.WALL - 90_000}")
        assert series["step_seconds"] == 3600

    @pytest.mark.parametrize("since", ["x", "-1", "nan", "1e99"])
    def test_refuses_a_time_that_is_none(self, site, since):
        status, error = refused(site.get(f"/api/v1/runs/bert/series?since={since}"))
        assert (status, error) == (400, f"since={since}: expected seconds since the Unix epoch")

    def test_of_a_run_that_nobody_knows_is_not_found(self, site):
        assert site.get("/api/v1/runs/nobody/series").status == 404


class TestWanted:
    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("user=ada", ["bert", "old"]),
            ("user=nobody", []),
            ("job_id=42", ["bert"]),
            ("run_id=old", ["old"]),
            ("group=sweep", ["sweep-1"]),
            ("name=gpt", ["inner"]),
            ("namespace=nlp", ["sweep-1"]),
            ("inside=outer", ["inner"]),
        ],
    )
    def test_runs_are_those_of_a_user_job_group_or_run_around_them(
        self, site, record, query, found
    ):
        labels = (("group", "sweep"),)
        of_group = record(RunKey(1, "sweep-1", ""), labels=labels, user="eve", namespace="nlp")
        outer = record(RunKey(1, "outer", ""), user="eve")
        inner = record(RunKey(1, "inner", ""), enclosing=outer.run.key, user="eve", name="gpt")
        site.archive.records = [of_group, outer, inner]
        assert ids(site.json(f"/api/v1/runs?{query}")) == found

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("inside=sweep&inside_job_id=1", "ada-1"),
            ("inside=sweep&inside_job_id=2", "ada-2"),
            ("inside=sweep@1001", "eve-1"),
        ],
    )
    def test_runs_inside_runs_of_one_id_stay_apart(self, site, made, query, found):
        """Of two jobs of one user, and of another user, whose run is shown with its uid."""
        runs = []
        for uid, job_id, shown_id, inner in (
            (1000, "1", "sweep", "ada-1"),
            (1000, "2", "sweep", "ada-2"),
            (1001, "1", "sweep@1001", "eve-1"),
        ):
            outer = RunKey(uid, "sweep", job_id)
            runs += [
                made.run(outer, shown_id=shown_id),
                made.run(RunKey(uid, inner, job_id), enclosing=outer),
            ]
        site.board.publish(made.snapshot(runs=tuple(runs)))
        (run,) = site.json(f"/api/v1/runs?{query}")["runs"]
        assert run["run_id"] == found
        assert run["inside"] == query.partition("&")[0].removeprefix("inside=")

    def test_an_enclosing_run_that_nobody_knows_is_not_found(self, site):
        status, error = refused(site.get("/api/v1/runs?inside=nobody"))
        assert (status, error.partition(" on ")[0]) == (404, "run 'nobody' not found")

    def test_the_namespace_that_was_asked_for_is_in_the_answer(self, site):
        assert site.json("/api/v1/runs?namespace=nlp")["namespace"] == "nlp"
        assert site.json("/api/v1/runs?namespace=nlp&by=user")["namespace"] == "nlp"
        assert "namespace" not in site.json("/api/v1/runs")


def test_the_intensity_has_its_last_day_what_is_ahead_the_second_one_and_its_sources(site, made):
    site.board.publish(made.snapshot(grid=made.live_grid()))
    answer = site.json("/api/v1/intensity")
    assert [value["grams_per_kwh"] for value in answer["recent"]] == [344.0]
    assert [value["grams_per_kwh"] for value in answer["forecast"]] == [250.0]
    assert answer["second"]["factor"]["accounting"] == "market"
    assert answer["sources"][0]["requests"] == {"ok": 7, "unauthorized": 2}
    assert answer["sources"][1]["answered"] is None
