"""The colours a terminal would show at a point of a log (SGR, ECMA-48 and xterm's extensions)."""

from collections.abc import Iterator

from runs.logs.colours import Rgb, foreground, indexed, on_background

# Numbers 0-7 and, bright, 8-15 → class. Black and white are the theme's text: either would vanish in one of the themes.
CLASSES = ["a-bk", "a-re", "a-gr", "a-ye", "a-bl", "a-ma", "a-cy", "a-wh"]

Colour = int | Rgb | None


class Style:
    """Bold, dim, italic, underlined, and the colours."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.bold = self.dim = self.italic = self.underlined = False
        self.text: Colour = None
        self.ground: Colour = None

    def apply(self, code: bytes) -> None:
        """Take what stands between ``ESC [`` and ``m``. What is not understood is passed over."""
        if not all(byte in b"0123456789;:" for byte in code):
            return
        # 38:2::r:g:b is the standard's way to write 38;2;r;g;b.
        numbers = [int(part[:4]) if part else 0 for part in code.replace(b"::", b":").replace(b":", b";").split(b";")]
        rest = iter(numbers)
        for number in rest:
            if number == 0:
                self._reset()
            elif number == 1:
                self.bold = True
            elif number == 2:
                self.dim = True
            elif number == 3:
                self.italic = True
            elif number in {4, 21}:
                self.underlined = True
            elif number == 22:
                self.bold = self.dim = False
            elif number == 23:
                self.italic = False
            elif number == 24:
                self.underlined = False
            elif 30 <= number <= 37:
                self.text = number - 30
            elif number in {38, 48}:
                colour = _extended(next(rest, 0), rest)
                if number == 38:
                    self.text = colour
                else:
                    self.ground = colour
            elif number == 39:
                self.text = None
            elif 40 <= number <= 47:
                self.ground = number - 40
            elif number == 49:
                self.ground = None
            elif 90 <= number <= 97:
                self.text = number - 82
            elif 100 <= number <= 107:
                self.ground = number - 92

    def wrap(self, markup: str) -> str:
        """Escaped text inside what shows this style."""
        classes, style = [], ""
        if self.ground is not None:
            style = on_background(None if self.text is None else _rgb(self.text), _rgb(self.ground))
        elif isinstance(self.text, int) and self.text < 16:
            classes.append("a-dim" if self.text == 8 else CLASSES[self.text % 8])
        elif self.text is not None:
            style = "color:" + foreground(_rgb(self.text))
        elif self.dim:
            classes.append("a-dim")
        classes += [name for name, on in (("a-b", self.bold), ("a-i", self.italic), ("a-u", self.underlined)) if on]
        if not classes and not style:
            return markup
        written = (f' class="{" ".join(classes)}"' if classes else "") + (f' style="{style}"' if style else "")
        return f"<span{written}>{markup}</span>"


def _extended(kind: int, rest: Iterator[int]) -> Colour:
    """The colour after 38 or 48: ``5;n`` of the palette or ``2;r;g;b``; none when that is cut off or out of range."""
    parts = [next(rest, 256) for _ in range({5: 1, 2: 3}.get(kind, 0))]
    if not parts or max(parts) > 255:
        return None
    return parts[0] if kind == 5 else (parts[0], parts[1], parts[2])


def _rgb(colour: int | Rgb) -> Rgb:
    return indexed(colour) if isinstance(colour, int) else colour
