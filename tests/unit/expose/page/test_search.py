"""Runs by words, and the way to their pages."""

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.expose.http.http1 import child
from exporter.expose.page.search import LONGEST, haystack, page_of, receipt_of, words_of
from exporter.model.runs import RunKey


def test_words_are_without_case_and_no_more_than_a_few():
    assert words_of("  BERT  Stra\u00dfe ") == ("bert", "stra\u00dfe")
    assert sum(map(len, words_of("x" * 1_000))) == LONGEST


def test_words_are_looked_for_in_everything_that_a_run_is_called(made):
    run = made.run(
        RunKey(1, "ID", "Job"), name="Name", account="Acc", namespace="Ns", labels=(("A", "B"),)
    )
    assert haystack(run) == "id\njob\nname\nada\nns\nacc\na=b"


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.text(st.sampled_from("a/%&=?# ")),
)
def test_the_way_to_a_run_leads_to_it(run_id, job_id):
    parts = urlsplit("/" + page_of(run_id, job_id))
    if run_id in (".", ".."):
        assert (parts.path, parse_qs(parts.query)) == ("/runs", {"q": [run_id]})
        return
    assert child(parts.path, "/runs") == run_id
    assert parse_qs(parts.query, keep_blank_values=True) == {"job_id": [job_id]}
    path = urlsplit("/" + receipt_of(run_id, job_id, "text")).path
    assert child(path.removesuffix("/receipt"), "/runs") == run_id


@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_no_word_means_every_run(text):
    assert words_of(text) == ()
