"""The runs that the ledger knows, searched: also those that have left the page of the node."""

from collections.abc import Sequence

from exporter.expose.page.document import HOME, METRICS, document
from exporter.expose.page.panels.runs import past_runs
from exporter.expose.page.search import has_all, haystack, words_of
from exporter.markup import tag, together
from exporter.model.record import RunRecord

LOOKED_AT = 1_000
SHOWN = 200


def earlier_page(
    node: str, records: Sequence[RunRecord], query: str, telemetry_path: str = METRICS
) -> bytes:
    """The newest runs that have all words of `query`, out of the newest that the ledger has."""
    words = words_of(query)
    found = [record for record in records if not words or has_all(haystack(record.run), words)]
    shown = found[:SHOWN]
    said = f"{len(shown)} of the newest {len(records)} that this node knows"
    main = together(
        tag(
            "header",
            tag("nav", tag("a", f"\u2190 {node}", href=HOME)),
            tag("h1", "Earlier runs"),
        ),
        past_runs(shown, query, said, HOME),
    )
    return document(f"Runs \u00b7 {node}", main, HOME, telemetry_path=telemetry_path)
