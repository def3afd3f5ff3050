"""Budgets file: parsing and errors."""

import pytest

from exporter.budgets import BudgetDefinition, Period, load_budgets
from exporter.errors import ConfigError

GOOD = "budgets:\n- name: all\n  grams: 5\n  period: day\n"


@pytest.fixture
def budgets(tmp_path):
    path = tmp_path / "budgets.yaml"

    def of(text):
        path.write_text(text)
        return load_budgets(str(path))

    return of


@pytest.fixture
def refusal(budgets):
    def of(text):
        with pytest.raises(ConfigError) as refused:
            budgets(text)
        return str(refused.value)

    return of


def test_a_budget_without_a_selector_is_of_everything(budgets):
    assert budgets(GOOD) == (BudgetDefinition("all", 5.0, False, Period.DAY, (), line=2),)


def test_kilowatt_hours_become_joules(budgets):
    (budget,) = budgets("budgets: [{name: a, kwh: 2, period: week}]")
    assert (budget.limit, budget.is_energy) == (7.2e6, True)


def test_a_selector_has_one_value_or_several(budgets):
    (budget,) = budgets(
        "budgets: [{name: a, grams: 1, period: month, of: {user: ada, label_team: [x, 7]}}]"
    )
    assert budget.of == (("user", ("ada",)), ("label_team", ("x", "7")))


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("[]", "expected name, grams, kwh, period, of"),
        ("{name: a, grams: 1, period: year}", "period: expected one of day, week, month, quarter"),
        ("{name: a, grams: 1}", "period: expected one of"),
        ("{name: a, grams: 0, period: day}", "grams: 0 is not a valid limit; it must be above 0"),
        ("{name: a, grams: -3, period: day}", "must be above 0"),
        ("{name: a, grams: .inf, period: day}", "must be above 0"),
        ("{name: a, grams: .nan, period: day}", "must be above 0"),
        ("{name: a, grams: 5 kg, period: day}", "expected a number without a unit, found '5 kg'"),
        ("{name: a, grams: true, period: day}", "expected a number without a unit"),
        ("{name: a, period: day}", "expected either grams or kwh"),
        ("{name: a, grams: 1, kwh: 1, period: day}", "expected either grams or kwh"),
        ("{name: a, kilos: 1, period: day}", "kilos: there is no such key; known are name"),
        ("{grams: 1, period: day}", "name: expected letters, digits"),
        ("{name: 'a b', grams: 1, period: day}", "found 'a b'"),
        ("{name: a, grams: 1, period: day, of: ada}", "of: expected labels with their values"),
        ("{name: a, grams: 1, period: day, of: {pod: x}}", "of: pod: a budget can be of user"),
        ("{name: a, grams: 1, period: day, of: {user: ''}}", "of.user: expected a value"),
        ("{name: a, grams: 1, period: day, of: {user: []}}", "of.user: expected a value"),
        ("{name: a, grams: 1, period: day, of: {user: [[x]]}}", "of.user: expected a value"),
        ("{name: a, grams: 1, period: day, of: {user: [x, no]}}", 'quote values such as "on"'),
        ("{name: a, grams: 1, grams: 2, period: day}", "duplicate key grams"),
        ("{name: a, off: 1, period: day}", "off: there is no such key; known are name"),
    ],
)
def test_errors_name_the_line_and_the_reason(refusal, entry, why):
    said = refusal(f"{GOOD}- {entry}\n")
    assert "budgets.yaml: line 5: " in said
    assert why in said


@pytest.mark.parametrize(
    ("name", "grams", "period", "of", "where"),
    [
        ("a", "1", "dya", "{user: x}", "line 8: period: expected one of"),
        ("a", "-1", "day", "{user: x}", "line 6: grams: -1 is not a valid limit"),
        ("a", "1", "day", "{pod: x}", "line 7: of: pod: a budget can be"),
        ("all", "1", "day", "{user: x}", "line 5: name: another budget"),
        ("a", "1\n  kilos: 2", "day", "{user: x}", "line 7: kilos: there is no such key"),
    ],
)
def test_an_error_of_a_key_has_the_line_of_that_key(refusal, name, grams, period, of, where):
    entry = f"- name: {name}\n  grams: {grams}\n  of: {of}\n  period: {period}\n"
    assert where in refusal(GOOD + entry)


def test_two_budgets_of_one_name_are_rejected_with_the_line_of_the_second(refusal):
    assert refusal(GOOD + GOOD.partition("\n")[2]).endswith(
        "line 5: name: another budget is named all"
    )


@pytest.mark.parametrize("text", ["", "budgets:\n", "budgets: []\n", "x: 1\n", "- name: a\n"])
def test_a_file_without_budgets_is_rejected(refusal, text):
    assert "expected the key `budgets`" in refusal(text)


def test_what_is_no_yaml_is_rejected_with_its_place(refusal):
    assert "line 3" in refusal("budgets:\n- {name: \n")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent.yaml: cannot be read: No such file"):
        load_budgets(str(tmp_path / "absent.yaml"))
