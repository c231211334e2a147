"""What a notebook shows of an object that is the last line of a cell: a small table with a link to its page. Every text is escaped."""

from __future__ import annotations

from html import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def table(link: str, **columns: Any) -> str:
    """HTML with a head and a value for each column; `link`: the address of the page in the studio."""
    heads = "".join("<th>%s</th>" % escape(name.replace("_", " ").capitalize()) for name in columns)
    cells = "".join("<td>%s</td>" % escape("" if value is None else str(value)) for value in columns.values())
    # What is no address of the web is shown and cannot be followed.
    if link.startswith(("http://", "https://")):
        page = '<a href="%s" target="_blank" rel="noopener">Link to studio</a>' % escape(link, quote=True)
    else:
        page = escape(link)
    return "<table><tr>%s<th>Studio</th></tr><tr>%s<td>%s</td></tr></table>" % (heads, cells, page)
