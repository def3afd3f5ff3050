"""Search of runs, and the paths of their pages."""

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.expose.http.http1 import path_child
from exporter.expose.page.runs import (
    MAX_QUERY_CHARACTERS,
    receipt_path,
    run_page_path,
    search_text,
    split_query,
)
from exporter.model.runs import RunKey


def test_search_words_are_case_insensitive_and_limited():
    assert split_query("  BERT  Stra\u00dfe ") == ("bert", "stra\u00dfe")
    assert sum(map(len, split_query("x" * 1_000))) == MAX_QUERY_CHARACTERS


def test_search_covers_id_job_name_user_account_and_labels(made):
    run = made.run(
        RunKey(1, "ID", "Job"), name="Name", account="Acc", namespace="Ns", labels=(("A", "B"),)
    )
    assert search_text(run) == "id\njob\nname\nada\nns\nacc\na=b"


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.text(st.sampled_from("a/%&=?# ")),
)
def test_the_path_of_a_run_leads_to_its_page(run_id, job_id):
    parts = urlsplit("/" + run_page_path(run_id, job_id))
    if run_id in (".", ".."):
        assert (parts.path, parse_qs(parts.query)) == ("/runs", {"q": [run_id]})
        return
    assert path_child(parts.path, "/runs") == run_id
    assert parse_qs(parts.query, keep_blank_values=True) == {"job_id": [job_id]}
    path = urlsplit("/" + receipt_path(run_id, job_id, "text")).path
    assert path_child(path.removesuffix("/receipt"), "/runs") == run_id


@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_an_empty_search_matches_every_run(text):
    assert split_query(text) == ()
