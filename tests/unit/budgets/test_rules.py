"""Rules from budgets; their results are tested in tests/rules."""

import pytest

from exporter.budgets import BudgetDefinition, Period, rule_file


def budget(name="a", *, of=(), period=Period.DAY, is_energy=False):
    return BudgetDefinition(name, 5.0, is_energy, period, of)


def recorded(made, name):
    (rule,) = [rule for rule in made["groups"][0]["rules"] if rule.get("record") == name]
    return rule


@pytest.mark.parametrize(
    ("of", "expr"),
    [
        ((), "sum(cluster:emissions_device_carbon_grams:increase)"),
        ((("user", ("ada",)),), 'sum(user:emissions_run_carbon_grams:increase{user="ada"})'),
        (
            (("account", ("a", "b.c")),),
            'sum(account:emissions_run_carbon_grams:increase{account=~"a|b\\\\.c"})',
        ),
        (
            (("user", ("ada",)), ("label_team", ("nlp",))),
            '(emissions_run_info{user="ada", label_team="nlp"})',
        ),
    ],
)
def test_a_budget_reads_the_cheapest_series_that_know_its_selector(of, expr):
    rule = recorded(rule_file([budget(of=of)]), "budget:emissions_budget_grams:increase")
    assert expr in rule["expr"]


def test_a_value_cannot_leave_its_quotes():
    of = (("user", ('x"} or vector(1e9) #\\\n',)),)
    rule = recorded(rule_file([budget(of=of)]), "budget:emissions_budget_grams:increase")
    assert 'user="x\\"} or vector(1e9) #\\\\\\n"' in rule["expr"]


def test_the_limit_is_published_once():
    made = rule_file([budget("a"), budget("b", is_energy=True)])
    assert recorded(made, "emissions_budget_limit_grams")["labels"]["budget"] == "a"
    assert recorded(made, "emissions_budget_limit_joules")["labels"]["budget"] == "b"


def test_each_period_is_in_the_calendar_once():
    made = rule_file([budget("a"), budget("b"), budget("c", period=Period.WEEK)])
    starts = [
        rule["labels"]["period"]
        for rule in made["groups"][0]["rules"]
        if rule["record"] == "period:emissions_budget_period_start_time_seconds:max"
    ]
    assert starts == ["day", "week"]


def test_alerts_link_to_the_runbook_only_where_its_address_is_known():
    def links(url):
        alerts = rule_file([budget()], url)["groups"][1]["rules"]
        return {rule["alert"]: rule["annotations"].get("runbook_url") for rule in alerts}

    url = "https://git.example/runbook.md"
    assert set(links("").values()) == {None}
    assert links(url) == {name: f"{url}#{name.lower()}" for name in links(url)}
