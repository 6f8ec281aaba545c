"""Tables and figures of the report's page."""

from html import escape


def table(rows: dict[str, str]) -> str:
    """A table of two columns."""
    cells = "".join(
        f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in rows.items()
    )
    return f"<table>{cells}</table>"


def figure(content: str, caption: str) -> str:
    """Pictures over their caption."""
    return f"<figure>{content}<figcaption>{escape(caption)}</figcaption></figure>"
