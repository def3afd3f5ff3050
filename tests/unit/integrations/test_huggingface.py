"""Models by their emissions, from a Hub whose cards are not all good."""

import sys
from types import SimpleNamespace

import pytest

from exporter.errors import MissingLibrary, SourceError
from exporter.integrations.huggingface import models_within, update_card


class Hub:
    """Lists what it is given, as the library does: a card without a value stops its filter."""

    def __init__(self, **cards):
        self.cards = cards
        self.asked = []

    def list_models(self, emissions_thresholds=None, **asked):
        self.asked.append((emissions_thresholds, asked))
        for name, emissions in self.cards.items():
            if emissions_thresholds and isinstance(emissions, dict):
                emissions["emissions"]
            yield SimpleNamespace(id=name, card_data={"co2_eq_emissions": emissions})


@pytest.mark.parametrize("tags", ["bert", ["bert"]])
def test_the_library_is_asked_with_both_bounds_and_for_the_cards(tags):
    hub = Hub(a=3.5)
    (found,) = models_within(1, None, api=hub, filter=tags, limit=10)
    assert (found.id, found.emissions_grams) == ("a", 3.5)
    asked = {"filter": ["bert", "co2_eq_emissions"], "cardData": True, "limit": 10}
    assert hub.asked == [((1, None), asked)]


def test_a_card_without_a_value_does_not_end_the_list():
    hub = Hub(a=3, bad={"source": "x"}, b={"emissions": "7 g"}, c=20)
    found = models_within(1, 10, api=hub)
    assert [(model.id, model.emissions_grams) for model in found] == [("a", 3), ("b", 7)]


def test_a_hub_that_does_not_answer_is_said():
    with pytest.raises(SourceError, match="the Hub does not answer"):
        list(models_within(1, api=SimpleNamespace(list_models=lambda **_: 1 / 0)))


def test_a_missing_library_is_said_with_the_way_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingLibrary, match=r"pip install 'emissions-exporter\[huggingface\]'"):
        list(models_within(1))


def test_a_card_takes_a_record_and_what_is_told(tmp_path):
    record = {"carbon_ng": 10**9, "energy_uj": 10**6, "held_uj": 0, "parts": [], "intensity": []}
    update_card(
        str(tmp_path / "README.md"),
        {**record, "run_id": "a", "node": "n1", "duration_seconds": 1.0},
        location="Quebec, Canada",
    )
    text = (tmp_path / "README.md").read_text()
    assert "  emissions: 1\n" in text
    assert '  geographical_location: "Quebec, Canada"\n' in text
