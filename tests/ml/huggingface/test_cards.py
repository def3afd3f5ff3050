"""Our cards in the Hub's own hands: its parser, its threshold filter, its listing."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

huggingface_hub = pytest.importorskip("huggingface_hub")
from huggingface_hub.utils.endpoint_helpers import _is_emission_within_threshold  # noqa: E402

from exporter.integrations.huggingface import is_within, models_within  # noqa: E402
from exporter.report.card.amounts import hub_value, plain_grams  # noqa: E402
from exporter.report.card.merge import merge_card  # noqa: E402

pytestmark = pytest.mark.ml
KEY = "co2_eq_emissions"
RECORD = {
    "version": 1,
    "run_id": "bert",
    "job_id": "",
    "node": "n1",
    "started": 0,
    "ended": 3600,
    "at": 3600,
    "duration_seconds": 3600.0,
    "energy_uj": 10**12,
    "held_uj": 0,
    "carbon_ng": 83_524 * 10**9,
    "labels": {"training_type": "fine-tuning"},
    "parts": [{"device": "gpu", "id": "GPU-1", "method": "counter", "energy_uj": 10**12}],
    "intensity": [
        {
            "zone": "FR",
            "source": "a table",
            "grams_per_kwh": 120.0,
            "pue": 1.2,
            "basis": "lifecycle",
            "energy_uj": 10**12,
        }
    ],
}
KEYS = ["emissions", "source", "training_type", "geographical_location", "hardware_used"]
VALUES = [
    *(3.516233232503715, 4009.5, 0, 0.0, None, "~ 12 t", "1,234 g", "0.5 kg", 2.1e-06, "none", ""),
    *({"emissions": 7}, {"emissions": "7.5 g"}, {"emissions": 0}, {"emissions": None}, [1], True),
]


def model(emissions: Any) -> Any:
    data = huggingface_hub.ModelCardData(**{KEY: emissions})
    return huggingface_hub.hf_api.ModelInfo(
        id="m", cardData=data.to_dict(), siblings=[], tags=[], modelId="m"
    )


def is_listed(emissions: Any, least: float | None, most: float | None) -> bool:
    return bool(_is_emission_within_threshold(model(emissions), least, most))


def test_the_parser_of_the_hub_reads_every_key_of_a_card_of_ours() -> None:
    card = huggingface_hub.ModelCard(merge_card("", RECORD).text)
    emissions = card.data.to_dict()[KEY]
    assert list(emissions) == KEYS
    assert emissions["emissions"] == 83524
    assert emissions["training_type"] == "fine-tuning"


def test_a_card_of_the_hubs_template_keeps_its_metadata_and_its_text() -> None:
    pytest.importorskip("jinja2")
    data = huggingface_hub.ModelCardData(language="en", license="mit", tags=["a", "b"])
    before = huggingface_hub.ModelCard.from_template(data, model_id="tiny", developers="us")
    after = huggingface_hub.ModelCard(merge_card(str(before), RECORD).text)
    kept = {name: value for name, value in after.data.to_dict().items() if name != KEY}
    assert kept == before.data.to_dict()
    head, _, tail = before.text.partition("## Environmental Impact")
    assert after.text.startswith(head)
    assert after.text.endswith(tail[tail.index("## Technical Specifications") :])
    assert "- **Carbon Emitted:** 83524 g CO2eq (83.5 kg)" in after.text
    assert "- **Cloud Provider:** [More Information Needed]" in after.text


def test_a_card_saved_by_the_library_is_merged_again_without_a_change() -> None:
    once = huggingface_hub.ModelCard(merge_card("", RECORD).text)
    again = huggingface_hub.ModelCard(merge_card(str(once), RECORD).text)
    assert again.data.to_dict() == once.data.to_dict()
    assert again.text == once.text


@pytest.mark.parametrize("grams", [83524, 3.51623, 0.000135, 0.25])
def test_what_we_write_is_listed_between_its_own_bounds(grams: float) -> None:
    text = merge_card("", {**RECORD, "carbon_ng": round(grams * 1e9)}).text
    emissions = huggingface_hub.ModelCard(text).data.to_dict()[KEY]
    assert is_listed(emissions, grams * 0.999, grams * 1.001)
    assert not is_listed(emissions, grams * 1.01, None)
    assert not is_listed(emissions, None, grams * 0.99)


def test_below_a_ten_thousandth_of_a_gram_the_filter_misreads_even_plain_decimals() -> None:
    assert plain_grams(35_000) == "0.000035"
    card = huggingface_hub.ModelCard(merge_card("", {**RECORD, "carbon_ng": 35_000}).text)
    emissions = card.data.to_dict()[KEY]
    assert emissions["emissions"] == 0.000035
    assert is_listed(emissions, 3.4, 3.6)
    assert hub_value(emissions["emissions"]) == 3.5


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("bounds", [(1, None), (None, 5), (0.4, 8), (None, 1e9)], ids=repr)
def test_our_reading_is_that_of_the_library(value: Any, bounds: tuple[Any, Any]) -> None:
    assert is_within(value, *bounds) == is_listed(value, *bounds)


class Hub(BaseHTTPRequestHandler):
    """Answers `/api/models` with cards, as the Hub does."""

    asked: ClassVar[list[str]] = []
    cards: ClassVar[dict[str, Any]] = {}

    def do_GET(self) -> None:
        self.asked.append(self.path)
        models = [
            {"id": name, "modelId": name, "tags": [KEY], "cardData": {KEY: emissions}}
            for name, emissions in self.cards.items()
        ]
        body = json.dumps(models).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        Hub.asked.clear()
        yield huggingface_hub.HfApi(endpoint=f"http://127.0.0.1:{server.server_port}", token=False)
        server.shutdown()
        thread.join()


def listed(hub: Any, *bounds: float | None) -> list[tuple[str, float]]:
    return [(model.id, model.emissions_grams) for model in models_within(*bounds, api=hub)]


def test_models_are_listed_by_the_emissions_of_their_cards(hub: Any) -> None:
    Hub.cards = {
        "short": 3.516233232503715,
        "long": {"emissions": 4009.5},
        "text": "0.5 kg",
        "no": 0,
    }
    assert listed(hub, None, 100) == [("short", 3.516233232503715), ("text", 0.5)]
    assert listed(hub, 500, None) == [("long", 4009.5)]
    assert "filter=co2_eq_emissions" in Hub.asked[0]
    assert "cardData" in Hub.asked[0]


def test_a_card_without_a_value_hides_no_other(hub: Any) -> None:
    Hub.cards = {"a": 1.5, "bad": {"source": "x"}, "b": {"emissions": 2}}
    assert listed(hub, 1, None) == [("a", 1.5), ("b", 2.0)]
