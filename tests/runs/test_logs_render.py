"""Rows of the log viewer: nothing that a script prints becomes markup, and colours can be read in both themes."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runs.logs import Line
from runs.logs.colours import CONTRAST, DARK, LIGHT, contrast, foreground, indexed, on_background, readable
from runs.logs.render import render_lines, render_text, render_updates
from runs.logs.sgr import Style

ATTRIBUTES = {
    "div": {"class", "id"},
    "a": {"href", "aria-label", "target", "rel"},
    "time": {"data-t"},
    "span": {"class", "style"},
    "button": {"type", "class", "data-line"},
}
ADDRESS = re.compile(r"https?://|#L\d+$")
STYLE = re.compile(r"(color:light-dark\(#[0-9a-f]{6},#[0-9a-f]{6}\)|color:#[0-9a-f]{6};background:#[0-9a-f]{6})$")


def line(text: bytes, number: int = 1, **fields) -> Line:
    values = {"offset": 0, "size": len(text), "cut": 0, "folded": 0, "time": None, **fields}
    return Line(number=number, text=text, **values)


def rows(*texts: bytes) -> str:
    return render_lines([line(text, number) for number, text in enumerate(texts, 1)])


def text_of(data: bytes) -> str:
    return render_text(data, Style(), 4000)[0]


class Checked(HTMLParser):
    """Fails on any element or attribute that the renderer does not write itself."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.shown = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert tag in ATTRIBUTES, tag
        assert {name for name, _ in attrs} <= ATTRIBUTES[tag], attrs
        for name, value in attrs:
            if name == "href":
                assert ADDRESS.match(value), value
            if name == "style":
                assert STYLE.match(value), value
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.shown += data

    def handle_comment(self, data):
        raise AssertionError(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


PIECES = st.sampled_from(
    [b"<script>alert(1)</script>", b"\x1b[", b"31", b"m", b";", b"38;2;1;2;3m", b"\x1b]8;;http://x/\x07", b"\"'", b"&amp;", b"<!--", b"-->",
     b"https://a.example/?q=<b>\"onclick=", b"http://", b"javascript:alert(1)", b"\x00", b"\xc3", b"\xff", b"\b", b"\r", b"]]>", b"<![CDATA[",
     b"hx-get=/x", b"\x1b[48;5;", b"Traceback (most recent call last):", b"  File", b"ValueError: x", b" ", b"\xe2\x80\xa8"]
)  # fmt: skip


@given(st.lists(st.lists(PIECES | st.binary(max_size=12), max_size=10).map(b"".join), max_size=6))
def test_no_input_becomes_markup(texts):
    texts = [text.replace(b"\n", b"") for text in texts]
    Checked(rows(*texts))
    for text in texts:
        Checked(render_updates(text))


@given(st.binary(max_size=200).filter(lambda data: not set(data) & set(b"\x1b\b\r\n")))
def test_all_text_is_shown_and_nothing_else(data):
    shown = Checked(text_of(data)).shown
    expected = re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]", "\ufffd", data.decode("utf-8", "replace"))
    assert shown == expected


def test_markup_in_a_log_is_text():
    html = text_of(b'<script>alert("1")</script> <b hx-on:click=x>&amp;')
    assert html == "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &lt;b hx-on:click=x&gt;&amp;amp;"


def test_a_row_is_what_the_style_sheet_expects():
    html = render_lines([line(b"UserWarning: slow", 18407, time=1795471988.25)])
    assert html == (
        '<div class="l w" id="L18407"><a href="#L18407" aria-label="Line 18407">18,407</a>'
        '<time data-t="1795471988.250">22:13:08</time><span>UserWarning: slow</span></div>'
    )


@pytest.mark.parametrize(
    ("data", "html"),
    [
        (b"\x1b[32mok\x1b[0m!", '<span class="a-gr">ok</span>!'),
        (b"\x1b[1;94mx\x1b[22my", '<span class="a-bl a-b">x</span><span class="a-bl">y</span>'),
        (b"\x1b[4mu\x1b[24m\x1b[3mi\x1b[m-", '<span class="a-u">u</span><span class="a-i">i</span>-'),
        (b"\x1b[90mgrey\x1b[39mplain", '<span class="a-dim">grey</span>plain'),
        (b"\x1b[38;5;2mx", '<span class="a-gr">x</span>'),
        (b"\x1b[2Ka\x1b[1;1Hb\x1b[?25lc\x1b(Bd\x1b]0;title\x07e\x1bMf", "abcdef"),
        (b"a\x1b]8;;http://evil/\x1b\\b", "ab"),
        (b"a\x1b]never ends", "anever ends"),
        (b"cut \x1b[3", "cut "),
        (b"\x1b[38;5mx\x1b[38;9my", "xy"),
        (b"\x1b[=31mx\x1b[31qy", "xy"),
    ],
)
def test_escape_sequences(data, html):
    assert text_of(data) == html


@pytest.mark.parametrize(
    ("data", "html"),
    [
        (b"half \xc3 and \xe2\x82", "half \ufffd and \ufffd"),
        (b"nul \x00 bell \x07", "nul \ufffd bell \ufffd"),
        (b"12%\b\b\b25%", "25%"),
        (b"\b\bx", "x"),
        (b"line\xe2\x80\xa8sep", "line\ufffdsep"),
        (b"tab\tstays", "tab\tstays"),
    ],
)
def test_what_cannot_be_shown_becomes_a_mark(data, html):
    assert text_of(data) == html


def test_links_open_in_a_new_tab_and_end_where_a_sentence_does():
    html = text_of(b"See https://a.example/x?a=1&b=<2>. (http://b.example/y)")
    assert html == (
        'See <a href="https://a.example/x?a=1&amp;b=" target="_blank" rel="noopener noreferrer nofollow">https://a.example/x?a=1&amp;b=</a>'
        '&lt;2&gt;. (<a href="http://b.example/y" target="_blank" rel="noopener noreferrer nofollow">http://b.example/y</a>)'
    )
    assert "<a " not in text_of(b"javascript:alert(1) ftp://x file:///etc/passwd data:text/html,x")


def test_colours_carry_over_from_line_to_line_and_from_the_lines_before_a_block():
    lines = [line(b"\x1b[31mred", 1), line(b"still red", 2), line(b"\x1b[0mplain", 3)]
    html = render_lines(lines, 2)
    assert 'id="L1"' not in html
    assert '<span class="a-re">still red</span>' in html
    assert "<span>plain</span>" in html


def test_a_long_line_is_cut_at_4000_characters_and_says_how_much_is_missing():
    html = render_lines([line("é".encode() * 5000, 7, cut=1_000_000)])
    assert html.count("é") == 4000
    assert '<button type="button" class="folded" data-line="7">1 MB more. Show all</button>' in html


def test_folded_updates_are_offered():
    html = render_lines([line(b"100%", 3, folded=1251)])
    assert (
        '100% <button type="button" class="folded" data-line="3">1,251 progress-bar updates folded. Show them</button>'
        in html
    )
    shown = render_updates(b"\r10%\r\x1b[32m20%\r30%\r")
    assert (
        shown
        == '<span class="up">10%</span><span class="up"><span class="a-gr">20%</span></span><span class="up"><span class="a-gr">30%</span></span>'
    )


def classes(html: str) -> list[str]:
    return re.findall(r'<div class="([^"]*)"', html)


def test_a_traceback_is_kept_together():
    html = rows(
        b"epoch 3", b"Traceback (most recent call last):", b'  File "train.py", line 3, in <module>', b"    main()", b"    ~~~~^^",
        b"ValueError: bad", b"", b"During handling of the above exception, another exception occurred:", b"",
        b"Traceback (most recent call last):", b'  File "train.py", line 9', b"RuntimeError: worse", b"bye",
    )  # fmt: skip
    assert classes(html) == [
        "l",
        "l e tb",
        "l tb",
        "l tb",
        "l tb",
        "l e tb",
        "l tb",
        "l tb",
        "l tb",
        "l e tb",
        "l tb",
        "l e tb",
        "l",
    ]


def test_an_error_of_the_scripts_own_syntax_is_kept_together():
    html = rows(
        b'  File "/x/train.py", line 2', b"    def f(:", b"          ^", b"SyntaxError: invalid syntax", b'  File "x", line 1', b"and on",
    )  # fmt: skip
    assert classes(html) == ["l e tb", "l tb", "l tb", "l e tb", "l", "l"]


def test_a_traceback_behind_a_launchers_prefix_is_kept_together():
    html = rows(
        b"[rank0]: Traceback (most recent call last):",
        b"[rank0]:   File x",
        b"[rank0]: ValueError: no",
        b"[rank0]: go on",
    )
    assert classes(html) == ["l e tb", "l tb", "l e tb", "l"]


def test_a_traceback_goes_on_in_the_next_block():
    lines = [
        line(b"Traceback (most recent call last):", 1),
        line(b"  File x", 2),
        line(b"KeyError: 'a'", 3),
        line(b"after", 4),
    ]
    assert classes(render_lines(lines, 3)) == ["l e tb", "l"]


@given(st.tuples(*[st.integers(0, 255)] * 3), st.tuples(*[st.integers(0, 255)] * 3))
def test_every_colour_can_be_read_in_both_themes_and_on_its_own_ground(colour, ground):
    for background in (LIGHT, DARK, (0xFB, 0xFC, 0xFD), (0x0F, 0x12, 0x15)):
        base = LIGHT if background[0] > 128 else DARK
        assert contrast(readable(colour, base), background) >= CONTRAST - 0.02
    written = on_background(colour, ground)
    text, back = (tuple(bytes.fromhex(part[-6:])) for part in written.split(";"))
    assert back == ground
    assert contrast(text, ground) >= CONTRAST


def test_a_readable_colour_is_left_alone():
    assert foreground((0x0B, 0x74, 0x50)).startswith("light-dark(#0b7450,")
    assert indexed(196) == (255, 0, 0)
    assert indexed(244) == (128, 128, 128)


def test_256_and_rgb_colours_are_written_for_both_themes():
    for code in (b"38;5;226", b"38;2;255;255;0", b"38:2::255:255:0"):
        assert text_of(b"\x1b[" + code + b"mx") == f'<span style="color:{foreground((255, 255, 0))}">x</span>'
    assert 'style="color:#' in text_of(b"\x1b[30;43mx")
