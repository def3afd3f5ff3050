"""Every query of every dashboard has an answer from a real Prometheus."""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode

import pytest

from tests.dashboards.boards import (
    BOARDS,
    GRAFANA,
    chosen,
    filled,
    numbers,
    query_of,
    questions,
    variables,
)
from tests.dashboards.scene import Scene, scene
from tests.real.parts import get, until

pytestmark = [pytest.mark.real, pytest.mark.beside]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    if shutil.which("prometheus") is None:
        pytest.skip("no prometheus on this machine: `make test` as root installs it")
    with scene(tmp_path_factory.mktemp("scene")) as found:
        found.ready()
        until(lambda: get_ended(found), 60, "a run has ended")
        yield found


def get_ended(live: Scene) -> list[Any]:
    return ask(live, "emissions_run_end_time_seconds")


def ask(live: Scene, query: str) -> list[Any]:
    """The series of an instant query."""
    return answer(live, "query", query=query)


def answer(live: Scene, how: str, **asked: Any) -> list[Any]:
    try:
        text = get(f"{live.url}/api/v1/{how}?{urlencode(asked)}")
    except HTTPError as error:
        with error:
            raise AssertionError(f"{error.read().decode()} of {asked['query']}") from None
    return list(json.loads(text)["data"]["result"])


@pytest.mark.parametrize("board", BOARDS)
def test_every_query_of_a_board_has_an_answer(live: Scene, board: str) -> None:
    values = chosen(board, GRAFANA, lambda query: ask(live, query))
    ask_for = partial(answer, live)
    asked = unanswered = questions(board)
    assert asked

    def answered() -> bool:
        """All of them, each at some moment: a scrape may be missing at another."""
        nonlocal unanswered
        unanswered = [each for each in unanswered if not numbers(each, values, ask_for)]
        return not unanswered

    with suppress(AssertionError):
        until(answered, 10)
    assert [question.name for question in unanswered] == []


@pytest.mark.parametrize(
    ("user", "runs"), [("mara|jun", {"llm-pretrain", "protein-fold"}), ("no user", {"chat-70b"})]
)
def test_the_leaderboard_has_the_runs_of_a_user_and_of_nobody(
    live: Scene, user: str, runs: set[str]
) -> None:
    values = {**GRAFANA, "user": user, "namespace": ".*", "top": "100"}
    (variable,) = [each for each in variables("leaderboard") if each["name"] == "run"]
    found = {row["metric"]["run_id"] for row in ask(live, filled(query_of(variable), values))}
    owned = ask(live, "emissions_run_info")
    others = {
        row["metric"]["run_id"]
        for row in owned
        if (row["metric"].get("user") or "no user") not in user.split("|")
    }
    assert runs <= found
    assert found.isdisjoint(others)


@pytest.mark.parametrize("board", BOARDS)
def test_every_label_of_a_table_has_a_heading(live: Scene, board: str) -> None:
    values = chosen(board, GRAFANA, lambda query: ask(live, query))
    for question in questions(board):
        if question.columns is not None:
            rows = ask(live, filled(question.expr, values))
            assert {label for row in rows for label in row["metric"]} <= question.columns
