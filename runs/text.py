"""Text of users as safe HTML: notes in Markdown, source with colours."""

import nh3
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

MAX_SOURCE_BYTES = 512 * 1024
MAX_MARKDOWN = 20_000
"""Characters; the parser takes quadratic time for some hostile texts."""
MAX_LINE = 5_000
TAGS = {
    "a", "b", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "li", "ol", "p",
    "pre", "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
# Languages by a file's ending. A list of our own: guessing runs every lexer over a hostile file.
LANGUAGES = {
    "py": "python", "pyi": "python", "ipynb": "json", "json": "json", "jsonl": "json", "yaml": "yaml", "yml": "yaml",
    "toml": "toml", "cfg": "ini", "ini": "ini", "sh": "bash", "bash": "bash", "md": "markdown", "r": "r", "jl": "julia",
    "c": "c", "h": "c", "cpp": "cpp", "cu": "cuda", "java": "java", "scala": "scala", "sql": "sql", "js": "javascript",
    "ts": "typescript", "html": "html", "xml": "xml", "svg": "xml", "css": "css", "diff": "diff", "dockerfile": "docker",
    "makefile": "make",
}  # fmt: skip

_renderer = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"])
_formatter = HtmlFormatter(nowrap=True, classprefix="p-")


def markdown(text: str) -> SafeString:
    """Markdown without HTML and without pictures; what comes out is cleaned once more."""
    if len(text) > MAX_MARKDOWN:
        return mark_safe(f"<pre>{escape(text)}</pre>")  # noqa: S308 escaped
    try:
        html = _renderer.render(text)
    except RecursionError:
        return mark_safe(f"<pre>{escape(text)}</pre>")  # noqa: S308 escaped
    clean = nh3.clean(
        html,
        tags=TAGS,
        attributes={"a": {"href", "title"}, "td": {"align"}, "th": {"align"}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
    return mark_safe(clean)  # noqa: S308 cleaned by nh3


def language_of(path: str) -> str | None:
    name = path.rsplit("/", 1)[-1].lower()
    return LANGUAGES.get(name.rsplit(".", 1)[-1])


def source_lines(text: str, path: str) -> list[SafeString]:
    """One piece of HTML a line, with colours where the language is known and the text is of a size for it."""
    language = language_of(path)
    if language and len(text) <= MAX_SOURCE_BYTES and max(map(len, text.split("\n")), default=0) <= MAX_LINE:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
        html = highlight(text, lexer, _formatter)
        lines = html.split("\n")
    else:
        lines = str(escape(text)).split("\n")
    if len(lines) > 1 and not lines[-1]:
        lines.pop()
    return [mark_safe(line) for line in lines]  # noqa: S308 escaped by pygments or by escape
