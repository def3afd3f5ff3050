"""The section for people is replaced where it stands."""

import pytest

from exporter.report.card.facts import CardFact
from exporter.report.card.merge import BEGIN_MARKER, END_MARKER, merge_section, section_extent

FACTS = {
    "Hardware Type": CardFact("3 GPUs", is_stated=False),
    "Carbon Emitted": CardFact("7 g CO2eq"),
}
OURS = (
    f"{BEGIN_MARKER}\n- **Hardware Type:** 3 GPUs\n- **Carbon Emitted:** 7 g CO2eq\n{END_MARKER}\n"
)
TEMPLATE = """\
# Model

## Environmental Impact

<!-- Total emissions (in grams of CO2eq) and additional considerations go here. -->

Carbon emissions can be estimated using the [Machine Learning Impact calculator](https://x).

- **Hardware Type:** [More Information Needed]
- **Hours used:** [More Information Needed]
- **Carbon Emitted:** [More Information Needed]

## Technical Specifications

It has specifications.
"""


def test_the_template_of_the_hub_is_filled_in():
    assert merge_section(TEMPLATE, FACTS, "\n") == (
        f"# Model\n\n## Environmental Impact\n\n{OURS}\n"
        "- **Hours used:** [More Information Needed]\n"
        "\n## Technical Specifications\n\nIt has specifications.\n"
    )


def test_what_a_person_wrote_there_stays():
    body = "## Environmental impact 🌍\n\nWe thank the sun.\n\n- **Hardware Type:** my laptop\n"
    text = merge_section(body, FACTS, "\n")
    assert "We thank the sun.\n\n- **Hardware Type:** my laptop\n" in text
    assert "3 GPUs" not in text


def test_ours_is_replaced_and_not_repeated():
    once = merge_section(TEMPLATE, FACTS, "\n")
    assert merge_section(once, FACTS, "\n") == once
    other = {**FACTS, "Carbon Emitted": CardFact("8 g CO2eq")}
    assert merge_section(once, other, "\n") == once.replace("7 g", "8 g")


def test_a_mark_without_its_other_half_takes_nothing_with_it():
    body = f"## Environmental Impact\n{BEGIN_MARKER}\nMine.\n## Next\n"
    assert "Mine.\n" in merge_section(body, FACTS, "\n")


def test_a_card_without_the_section_gets_it_at_its_end():
    assert merge_section("# Model", FACTS, "\n") == f"# Model\n\n## Environmental Impact\n\n{OURS}"
    assert merge_section("", FACTS, "\n") == f"## Environmental Impact\n\n{OURS}"


@pytest.mark.parametrize(
    "body",
    [
        "```\n## Environmental Impact\n```\n",
        "~~~~\n```\n## Environmental Impact\n~~~~\n",
        "<!--\n## Environmental Impact\n-->\n",
        "    ## Environmental Impact\n",
    ],
)
def test_a_heading_in_code_or_in_a_comment_is_none(body):
    assert section_extent(body.splitlines(keepends=True)) is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("### Environmental Impact\na\n#### b\nc\n### d\n", (1, 4)),
        ("Environmental Impact\n---\na\n\nNext\n===\n", (2, 4)),
        ("## Environmental Impact ##\n# Next\n", (1, 1)),
        ("## Environmental Impact\n- a\n---\nb\n", (1, 4)),
    ],
)
def test_the_section_ends_at_the_next_heading_of_its_level(body, expected):
    assert section_extent(body.splitlines(keepends=True)) == expected


def test_names_of_models_are_no_markup():
    text = merge_section("", {"Run": CardFact("a_b*c* --> <b>")}, "\n")
    assert r"a\_b\*c\* --\> \<b\>" in text
