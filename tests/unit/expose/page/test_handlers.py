"""HTTP handlers of pages and receipts."""

import gzip
import json

import pytest

from exporter.errors import LedgerError
from exporter.expose.page.handlers import file_name
from exporter.expose.page.layout import PAGE_CONTENT_SECURITY_POLICY, STATIC_TYPES
from exporter.model.runs import RunKey
from exporter.report.forms.registry import FORMS
from tests.unit.expose.page.reading import Reader

ODD = "a/b %2F?#\u00e9\"'<b>"
ODD_PATH = "a%2Fb%20%252F%3F%23%C3%A9%22%27%3Cb%3E"


@pytest.fixture
def odd(site, made):
    """A site with a run whose name has special characters."""
    site.board.publish(made.snapshot(runs=(made.run(RunKey(1, ODD, "j/1")),)))
    return site


@pytest.mark.parametrize("path", ["/", "/?q=x", "/runs", "/runs?q=x", "/runs/bert", "/runs/none"])
def test_the_content_security_policy_allows_only_own_files(site, path):
    response = site.get(path)
    assert response.getheader("Content-Security-Policy") == PAGE_CONTENT_SECURITY_POLICY
    assert response.getheader("Content-Type") == "text/html; charset=utf-8"
    assert response.getheader("Referrer-Policy") == "no-referrer"
    page = Reader(response.content.decode())
    assert "style" not in {name for name, _ in page.elements}
    assert not [a for _, a in page.elements if any(key.startswith(("on", "style")) for key in a)]
    (script,) = [a for name, a in page.elements if name == "script"]
    assert script["src"].endswith("/static/live.js")


@pytest.mark.parametrize(("name", "media_type"), STATIC_TYPES.items())
def test_static_files_are_served(site, name, media_type):
    response = site.get(f"/static/{name}")
    assert response.status == 200
    assert response.getheader("Content-Type") == media_type
    assert response.content


def test_a_run_with_an_odd_name_is_found_by_the_link_of_the_node(odd):
    page = Reader(odd.get("/").content.decode())
    (link,) = [a["href"] for name, a in page.elements if name == "a" and "/runs/" in a["href"]][:1]
    assert link == f"./runs/{ODD_PATH}?job_id=j%2F1"
    response = odd.get(link.removeprefix("."))
    assert response.status == 200
    assert ODD in Reader(response.content.decode()).text


def test_an_unknown_run_is_an_error_page_with_a_link_back(site):
    response = site.get("/runs/nobody")
    page = Reader(response.content.decode())
    assert response.status == 404
    assert "run 'nobody' not found on this machine" in page.text
    assert next(a["href"] for name, a in page.elements if name == "a") == "../"


def test_before_the_first_tick_the_page_refreshes(open_site):
    response = open_site().get("/")
    (main,) = [a for n, a in Reader(response.content.decode()).elements if n == "main"]
    assert (response.status, main["data-seconds"]) == (503, "5")


@pytest.mark.parametrize("name", FORMS)
def test_a_receipt_is_a_file_in_every_form(site, name):
    form = FORMS[name]
    response = site.get(f"/runs/bert/receipt?form={name}&job_id=42")
    assert response.status == 200
    assert response.getheader("Content-Type") == form.media_type
    file = f'attachment; filename="emissions-bert-42.{form.suffix}"'
    assert response.getheader("Content-Disposition") == file
    assert response.content.endswith(b"\n")


def test_the_json_receipt_is_the_record_of_the_interface(site):
    receipt = json.loads(site.get("/runs/bert/receipt?form=json").content)
    record = site.json("/api/v1/runs/bert")
    del record["power_watts"]
    assert receipt == record


def test_a_receipt_has_the_sums_of_inner_runs(site, made):
    outer = made.record(RunKey(1, "outer", ""))
    inner = made.record(RunKey(1, "inner", ""), enclosing=outer.run.key)
    innermost = made.record(RunKey(1, "innermost", ""), enclosing=inner.run.key)
    site.archive.records = [outer, inner, innermost]
    found = json.loads(site.get("/runs/outer/receipt?form=json").content)
    assert found["energy_uj"] == outer.energy_uj
    assert found["inner"]["runs"] == 2
    assert found["inner"]["energy_uj"] == inner.energy_uj + innermost.energy_uj > 0
    assert "with inner" in site.get("/runs/outer/receipt?form=html").content.decode()


def test_an_unknown_form_is_rejected_with_the_list_of_forms(site):
    response = site.get("/runs/bert/receipt?form=pdf")
    assert response.status == 400
    assert "expected one of text, json" in json.loads(response.content)["error"]


def test_a_receipt_of_a_run_with_an_odd_name_has_a_safe_file_name(odd):
    header = odd.get(f"/runs/{ODD_PATH}/receipt").getheader("Content-Disposition")
    assert header == 'attachment; filename="emissions-a_b_2F_b_-j_1.txt"'


@pytest.mark.parametrize("run_id", ["..", "/", "\u202e", "a" * 500, '"; x="', "\r\nSet-Cookie: a"])
def test_a_file_name_is_safe_whatever_the_run_is_called(made, run_id):
    record = made.record(RunKey(1, run_id, ""))
    name = file_name(record, FORMS["json"])
    assert name.isascii()
    assert not set(name) & set('/\\"\r\n ;')
    assert 15 <= len(name) <= 85
    assert not name.startswith(".")


def test_earlier_runs_are_found_in_the_ledger_by_words(site, made):
    site.archive.records = [
        made.record(RunKey(1, "past", "7"), labels=(("team", "nlp"),), ended=5.0),
        made.record(RunKey(1, "other", "8"), ended=5.0),
    ]
    page = Reader(site.get("/runs?q=NLP").content.decode())
    names = [a["data-words"].split("\n")[0] for _, a in page.elements if "data-words" in a]
    assert names == ["bert", "past"]
    assert "2 of the newest 4 in the ledger" in page.text
    assert "Power" not in page.text


def test_a_run_of_the_ledger_has_a_page(site, made):
    site.archive.records = [made.record(RunKey(1, "past", "7"), ended=5.0)]
    page = Reader(site.get("/runs/past?job_id=7").content.decode())
    assert "name of past" in page.text


def test_a_failing_ledger_is_an_error_page(site):
    site.archive.error = LedgerError("the disk is gone")
    response = site.get("/runs")
    assert response.status == 503
    assert "the disk is gone" in response.content.decode()
    assert site.get("/runs/bert").status == 200


def test_search_results_are_not_cached(site):
    for words in range(20):
        assert site.get(f"/?q={words}").status == 200
    assert not [name for name in site.web._routes._rendered._results if "q=" in name]


@pytest.mark.parametrize("path", ["/", "/?q=bert", "/runs", "/runs/bert"])
def test_a_page_is_compressed_if_the_client_accepts_it(site, path):
    response = site.get(path, accept_encoding="gzip")
    assert response.getheader("Content-Encoding") == "gzip"
    assert response.getheader("Vary") == "Accept-Encoding"
    assert b"bert" in gzip.decompress(response.content)
