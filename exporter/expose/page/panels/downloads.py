"""The receipt of a run to take along."""

from collections.abc import Mapping

from exporter.expose.page.search import receipt_of
from exporter.markup import Markup, tag
from exporter.model.record import Form
from exporter.model.runs import RunInfo


def downloads(run: RunInfo, forms: Mapping[str, Form], root: str) -> Markup:
    """A link for every form that a receipt can be written in."""
    links = [
        tag(
            "li",
            tag("a", form.title, href=root + receipt_of(run.shown_id, run.key.job_id, name)),
        )
        for name, form in forms.items()
    ]
    return tag("section", tag("h2", "Download the receipt"), tag("ul", *links, class_="links"))
