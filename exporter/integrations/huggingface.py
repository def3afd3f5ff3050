"""Hugging Face Hub: emissions in model cards, and search for models by their emissions."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from exporter.errors import ConfigError, SourceError
from exporter.integrations import import_optional
from exporter.report.card.amounts import hub_value
from exporter.report.card.facts import StatedFacts
from exporter.report.card.front_matter import EMISSIONS_FIELD, EMISSIONS_KEY
from exporter.report.card.merge import update_card_file


class HubModel(NamedTuple):
    """A model with the emissions that the Hub reads from its card."""

    id: str
    emissions_grams: float
    metadata: Any
    """Value of `co2_eq_emissions` in the card."""

    def order(self) -> tuple[float, str]:
        """Return the sort key: lowest emissions first."""
        return self.emissions_grams, self.id


def update_card(
    path: str,
    record: Mapping[str, Any],
    *,
    training_type: str = "",
    location: str = "",
    hardware: str = "",
    provider: str = "",
) -> None:
    """Merge a record, such as `run.record`, into a card; all other content stays unchanged.

    Raises ConfigError, and leaves the card unchanged, if the record has no emissions or the card is
    malformed.
    """
    update_card_file(path, record, StatedFacts(training_type, location, hardware, provider))


def models_within(
    min_grams: float | None = None,
    max_grams: float | None = None,
    *,
    api: Any = None,
    **search: Any,
) -> Iterator[HubModel]:
    """Yield models whose emissions lie between two bounds, inclusive; None is no bound.

    `search` is passed to `HfApi.list_models`, which applies `limit` before it filters by emissions.
    If a card has several amounts or units, the first digits are used; `emissions-exporter card
    check` reports such cards. Raises ConfigError, MissingLibrary and, if the Hub does not answer,
    SourceError.
    """
    if min_grams is None and max_grams is None:
        raise ConfigError("card models: give --min-grams, --max-grams or both")
    tags = search.get("filter") or []
    wanted = {
        **search,
        "filter": [*([tags] if isinstance(tags, str) else tags), EMISSIONS_KEY],
        "cardData": True,
    }
    hub = import_optional("huggingface_hub", "huggingface").HfApi() if api is None else api
    try:
        yield from (_emitter(model) for model in _models(hub, (min_grams, max_grams), wanted))
    except Exception as error:  # the library's HTTP client raises various exceptions
        raise SourceError(f"the Hub does not answer: {error}") from error


def _emitter(model: Any) -> HubModel:
    emissions = model.card_data.get(EMISSIONS_KEY)
    return HubModel(model.id, hub_value(_value(emissions)) or 0.0, emissions)


def _models(
    hub: Any, bounds: tuple[float | None, float | None], wanted: dict[str, Any]
) -> Iterator[Any]:
    """Yield models between the bounds; if the library's filter fails, filter the rest here.

    It fails on the first card without a value.
    """
    seen = set()
    with suppress(KeyError):
        for model in hub.list_models(emissions_thresholds=bounds, **wanted):
            seen.add(model.id)
            yield model
        return
    for model in hub.list_models(**wanted):
        if model.id not in seen and is_within((model.card_data or {}).get(EMISSIONS_KEY), *bounds):
            yield model


def is_within(emissions: Any, min_grams: float | None, max_grams: float | None) -> bool:
    """Whether the Hub's library would list a model with this `co2_eq_emissions`."""
    grams = hub_value(_value(emissions))
    return (
        grams is not None
        and (min_grams is None or min_grams <= grams)
        and (max_grams is None or grams <= max_grams)
    )


def _value(emissions: Any) -> Any:
    return emissions.get(EMISSIONS_FIELD) if isinstance(emissions, dict) else emissions
