"""Emissions come into a card, and all that others wrote stays."""

import pytest
import yaml

from exporter.errors import ConfigError
from exporter.report.card.facts import StatedFacts
from exporter.report.card.front_matter import split_card
from exporter.report.card.merge import merge_card

TOLD = StatedFacts("fine-tuning", "Quebec, Canada", "3 x A100", "none")


def emissions(text):
    return yaml.safe_load(split_card(text).block)["co2_eq_emissions"]


def head(metadata):
    return f"---\n{metadata}---\nbody\n"


def test_a_new_card_has_every_key_in_the_units_of_the_hub(record):
    text = merge_card("", record, TOLD).text
    assert emissions(text) == {
        "emissions": 83524,
        "source": emissions(text)["source"],
        "training_type": "fine-tuning",
        "geographical_location": "Quebec, Canada",
        "hardware_used": "3 x A100",
    }
    assert "read from a hardware counter" in emissions(text)["source"]


def test_what_others_wrote_stays_in_its_place_to_the_character(record, card):
    text = merge_card(card, record).text
    block, body = card.removeprefix("---\n").split("---\n")
    assert text.startswith(f"---\n{block}co2_eq_emissions:\n  emissions: 83524\n")
    assert f"---\n{body}\n## Environmental Impact\n" in text


def test_merging_again_changes_nothing(record, card):
    once = merge_card(card, record, TOLD)
    assert merge_card(once.text, record, TOLD) == (once.text, "")


def test_line_ends_of_windows_stay(record, card):
    text = merge_card(card.replace("\n", "\r\n"), record).text
    assert text.count("\n") == text.count("\r\n")
    assert merge_card(text.replace("\r\n", "\n"), record).text == text.replace("\r\n", "\n")


def test_a_byte_order_mark_stays_the_first(record):
    assert merge_card("\ufeff---\na: 1\n---\n", record).text.startswith("\ufeff---\na: 1\nco2_eq")


def test_the_short_form_becomes_the_long_one(record):
    made = merge_card(head("co2_eq_emissions: 3.5 # of the paper\nlicense: mit\n"), record)
    assert "co2_eq_emissions:  # of the paper\n  emissions: 83524\n" in made.text
    assert made.before == "3.5"


def test_other_keys_and_comments_under_it_stay(record):
    there = (
        "co2_eq_emissions:\n  # ours\n  note: [1,\n    2]\n  emissions: 83.524 # kg?\n# end\nz: 1\n"
    )
    text = merge_card(head(there), record).text
    assert "  # ours\n  note: [1,\n    2]\n  emissions: 83524 # kg?\n  source:" in text
    assert emissions(text)["note"] == [1, 2]
    assert '"3 GPUs"\n# end\nz: 1\n---\nbody' in text


def test_what_is_only_derived_gives_way_to_what_a_person_wrote(record):
    there = 'co2_eq_emissions:\n  geographical_location: "Brooklyn, NY"\n  source: a paper\n'
    once = merge_card(head(there), record).text
    assert emissions(once)["geographical_location"] == "Brooklyn, NY"
    assert merge_card(once, record).text == once
    told = merge_card(head(there), record, TOLD).text
    assert emissions(told)["geographical_location"] == "Quebec, Canada"


def test_the_average_of_the_world_is_no_location(record):
    record["intensity"][0]["zone"] = "WORLD"
    there = emissions(merge_card("", record).text)
    assert "geographical_location" not in there
    assert there["source"].endswith("intensity of a table, 2024 (WORLD)")


def test_labels_of_the_run_are_told_as_well(record, card):
    labels = {"training_type": "pre-training", "geographical_location": "Lyon", "team": "nlp"}
    there = emissions(merge_card(card, {**record, "labels": labels}).text)
    assert (there["training_type"], there["geographical_location"]) == ("pre-training", "Lyon")
    told = emissions(merge_card(card, {**record, "labels": labels}, TOLD).text)
    assert told["geographical_location"] == "Quebec, Canada"


def test_models_of_devices_are_the_hardware_and_are_derived_anew(record, card):
    for part in record["parts"]:
        part["model"] = "A100"
    once = merge_card(card, record).text
    assert emissions(once)["hardware_used"] == "3 \u00d7 A100"
    del record["parts"][0]
    assert emissions(merge_card(once, record).text)["hardware_used"] == "2 \u00d7 A100"


def test_what_we_derived_before_is_derived_anew(record, card):
    record["intensity"][0]["zone"] = "FR"
    before = merge_card(card, record).text
    record["intensity"][0]["zone"] = "DE"
    assert emissions(merge_card(before, record).text)["geographical_location"] == "DE"


@pytest.mark.parametrize(
    "metadata",
    [
        "co2_eq_emissions: {emissions: 1, note: x}\n",
        "{license: mit, co2_eq_emissions: 1}\n",
        "co2_eq_emissions:\nlicense: mit\n",
        "co2_eq_emissions:\n  source: >\n    long\n    text\n  emissions:\nlicense: mit\n",
        "co2_eq_emissions:\n  emissions: 1\n  note: |\n    long\n    text\n",
        "  license: mit\n  tags:\n  - a\n",
        "text: |+\n  kept\n\n",
        "# only a comment\n",
        "",
        '"co2_eq_emissions": 5\n',
    ],
)
def test_every_spelling_of_yaml_is_changed_in_place(record, metadata):
    there = yaml.safe_load(split_card(head(metadata)).block) or {}
    after = yaml.safe_load(split_card(merge_card(head(metadata), record).text).block)
    mine = after.pop("co2_eq_emissions")
    assert mine["emissions"] == 83524
    was = there.pop("co2_eq_emissions", None)
    assert after == there
    if isinstance(was, dict) and "note" in was:
        assert mine["note"].rstrip() == was["note"].rstrip()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("---\na: [1\nb: 2\n---\n", "line 3: metadata are not YAML"),
        ("---\na: 1\n\tb: 2\n---\n", "line 3: metadata are not YAML"),
        ("---\na: 1\n", "line 1: metadata begin with ---"),
        ("---\n- a\n---\n", "line 2: metadata are not a mapping"),
        (
            head("co2_eq_emissions: 1\na: 2\nco2_eq_emissions: 3\n"),
            "line 4: co2_eq_emissions is defined twice",
        ),
        (
            head("a: &x {emissions: 1}\nco2_eq_emissions: *x\n"),
            "line 3: .*without changing other content",
        ),
        (head("co2_eq_emissions: >\n  1\n  2\na: 1\n"), "line 2: .*without changing other content"),
        (head("co2_eq_emissions: [1, 2]\n"), "line 2: .*without changing other content"),
        (head("a: !!bool maybe\n"), "line 2: .*does not match its tag"),
        (head("a: !!timestamp noon\n"), "line 2: .*does not match its tag"),
        (head('a: !!int ""\n'), "line 2: .*does not match its tag"),
        (head(f"a: 0x{'f' * 50_000}\n"), "line 2: metadata are not YAML: Exceeds the limit"),
        (
            head("co2_eq_emissions: &a\n  emissions: 4\n  more: *a\n"),
            "line 2: aliases .* are recursive",
        ),
    ],
)
def test_what_is_malformed_is_refused_with_its_line(record, text, says):
    with pytest.raises(ConfigError, match=says):
        merge_card(text, record)


def test_aliases_that_would_fill_the_memory_are_refused_at_once(record):
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))]
    with pytest.raises(ConfigError, match=r"line 2: aliases .* are recursive or too large"):
        merge_card(head("\n".join(lines) + "\n"), record)


UNKNOWN = {"carbon_ng": 0, "intensity": []}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, r"run bert has no emissions: more than 1 % .*convert.zone.*report bert` shows how"),
        ({"run_id": "a b"}, "report 'a b'` shows how much is missing"),
        (
            {"run_id": "all 6 of group imp ml", "runs": 6, "group": {"name": "imp ml"}},
            r"^group imp ml has no emissions: .*report --group 'imp ml'` shows",
        ),
        (
            {"run_id": "all 6 of user ada", "runs": 6},
            r"^the sum of all 6 of user ada has no emissions: .* when its source answers$",
        ),
        (
            {"energy_uj": 0},
            r"^run bert has no emissions: no energy was measured; .*report bert` shows its record",
        ),
        (
            {"origin": "codecarbon"},
            r"^run bert has no emissions: .* imported file .* cannot be added later; .*bert` shows",
        ),
    ],
)
def test_a_record_without_emissions_is_refused_with_advice_for_its_kind(record, changes, expected):
    with pytest.raises(ConfigError, match=expected) as refused:
        merge_card("", {**record, **UNKNOWN, **changes})
    assert ("convert.zone" in str(refused.value)) == ("source answers" in str(refused.value))


def test_no_emissions_never_hide_those_that_stand_there(record, card):
    with pytest.raises(ConfigError, match="run bert has no emissions: more than 1 %"):
        merge_card(card, {**record, **UNKNOWN})


def test_emissions_of_0_are_not_written(record, card):
    with pytest.raises(ConfigError, match="run bert has emissions of 0 g, which the Hub's filter"):
        merge_card(card, {**record, "carbon_ng": 0})


def test_half_of_the_emissions_are_none(record, card):
    waiting = {"zone": None, "energy_uj": record["energy_uj"] // 2}
    record["intensity"].append(waiting)
    with pytest.raises(ConfigError, match="more than 1 % of its energy has no carbon intensity"):
        merge_card(card, record)
    waiting["energy_uj"] = 1
    assert emissions(merge_card(card, record).text)["emissions"] == 83524


def test_emissions_of_another_source_are_kept_unless_it_is_asked_for(record):
    there = head("co2_eq_emissions: 3.5\n")
    with pytest.raises(ConfigError, match="line 2: emissions of another source are kept"):
        merge_card(there, record, may_overwrite=False)
    assert merge_card(there, record).before == "3.5"
    ours = merge_card("", {**record, "carbon_ng": 10**9}).text
    assert merge_card(ours, record, may_overwrite=False).before == "1"
