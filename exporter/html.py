"""HTML and SVG made of tags, where every text is escaped because nothing else can be made."""

from exporter import formatting

ESCAPE_TABLE = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})
"""The same as those of `html.escape`, without the 3 ms that importing `html` takes."""


class Markup(str):
    """What may be sent as it is."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: str | float) -> Markup:
    """An element. Texts among `children` are escaped; `class_` means `class`; "" is left out."""
    spelled = "".join(
        f' {key.strip("_").replace("_", "-")}="{escape(attribute_text(value))}"'
        for key, value in attributes.items()
        if value != ""
    )
    return Markup(f"<{name}{spelled}>{concatenate(*children)}</{name}>")


def concatenate(*children: str) -> Markup:
    """Texts and elements in a row."""
    return Markup(
        "".join([child if isinstance(child, Markup) else escape(child) for child in children])
    )


def escape(text: str) -> str:
    """A text of any number of lines, inside quotes or outside, that is nothing but text.

    No browser takes it for markup, and it turns the direction of nothing around it.
    """
    if not text.isprintable():
        text = "\n".join(map(formatting.printable, text.split("\n")))
    return text.translate(ESCAPE_TABLE)


def attribute_text(value: str | float) -> str:
    """A text as it is; a number without digits that no screen shows."""
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
