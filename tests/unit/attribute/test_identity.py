"""Claims in environments, and valid ids and labels."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.attribute.identity import RunClaim, claim_from_environment, sanitize, sanitize_labels


def block(**variables: str) -> bytes:
    return b"".join(f"{k}={v}\0".encode() for k, v in variables.items())


def test_run_job_name_and_labels_are_read():
    text = block(
        PATH="/bin",
        EMISSIONS_RUN_ID="r1",
        EMISSIONS_JOB_ID="j1",
        EMISSIONS_RUN_NAME="bert",
        EMISSIONS_LABELS="team=nlp,stage=eval,broken",
    )
    assert claim_from_environment(text) == RunClaim(
        "r1", "j1", "bert", (("stage", "eval"), ("team", "nlp"))
    )


def test_a_job_id_alone_names_the_run_too():
    assert claim_from_environment(block(EMISSIONS_JOB_ID="4711")) == RunClaim("4711", "4711")


@pytest.mark.parametrize("name", ["MLFLOW_RUN_ID", "WANDB_RUN_ID", "TORCHELASTIC_RUN_ID"])
def test_tracker_ids_are_used_unless_none(name):
    assert claim_from_environment(block(**{name: "abc"})) == RunClaim("abc")
    assert claim_from_environment(block(**{name: "none"})) is None


def test_emissions_run_id_takes_precedence_over_tracker_ids():
    assert claim_from_environment(block(MLFLOW_RUN_ID="m", EMISSIONS_RUN_ID="e")) == RunClaim("e")


def test_environments_without_ids_have_no_claim():
    assert claim_from_environment(block(PATH="/bin", HOME="/root")) is None
    assert claim_from_environment(b"") is None


@given(st.text() | st.binary())
def test_any_id_becomes_valid_bounded_and_stable(text):
    once = sanitize(text)
    assert len(once.encode()) <= 128
    assert not any(unicodedata.category(c).startswith("C") for c in once)
    assert sanitize(once) == once


def test_long_ids_with_a_common_prefix_remain_different():
    assert sanitize("x" * 10_000) != sanitize("x" * 9_999)


@pytest.mark.parametrize(
    "hostile", ["\x85", "\x9b", "\u202e", "\u2066", "\u200b", "\udcff", "\ue000"]
)
def test_unprintable_characters_in_ids_are_replaced(hostile):
    assert sanitize(f"a{hostile}b") == "a b"


def test_the_first_of_two_equal_variables_is_used_like_getenv():
    assert claim_from_environment(b"EMISSIONS_RUN_ID=a\0EMISSIONS_RUN_ID=b\0") == RunClaim("a")


def test_a_variable_with_the_same_suffix_is_different():
    assert claim_from_environment(b"MY_EMISSIONS_RUN_ID=a\0") is None


def test_a_run_has_at_most_32_labels():
    text = block(EMISSIONS_RUN_ID="r", EMISSIONS_LABELS=",".join(f"k{n}=v" for n in range(99)))
    assert len(claim_from_environment(text).labels) == 32


@given(st.lists(st.tuples(st.text(), st.text() | st.text("x", min_size=90)), max_size=60))
def test_labels_are_bounded_sorted_and_named_once(pairs):
    labels = sanitize_labels(pairs)
    assert sum(len(part.encode()) for label in labels for part in label) <= 2048
    names = [name for name, _ in labels]
    assert names == sorted(set(names))
    assert "" not in names
