"""Terminal colours that stay readable: 16 are the theme's own, the others are brought to a contrast of 4.5:1."""

from functools import lru_cache

Rgb = tuple[int, int, int]

# The tints behind a marked line that leave the least contrast: the darkest of the light theme, the lightest of the dark one.
LIGHT: Rgb = (0xFD, 0xEC, 0xE6)
DARK: Rgb = (0x15, 0x21, 0x3A)
CONTRAST = 4.5
_STEPS = 64

_BASIC = [
    (0, 0, 0), (205, 0, 0), (0, 205, 0), (205, 205, 0), (0, 0, 238), (205, 0, 205), (0, 205, 205), (229, 229, 229),
    (127, 127, 127), (255, 0, 0), (0, 255, 0), (255, 255, 0), (92, 92, 255), (255, 0, 255), (0, 255, 255), (255, 255, 255),
]  # fmt: skip
_LEVELS = (0, 95, 135, 175, 215, 255)


def indexed(number: int) -> Rgb:
    """A colour of xterm's palette of 256."""
    if number < 16:
        return _BASIC[number]
    if number < 232:
        cube = number - 16
        return _LEVELS[cube // 36], _LEVELS[cube // 6 % 6], _LEVELS[cube % 6]
    grey = 8 + 10 * (number - 232)
    return grey, grey, grey


def luminance(colour: Rgb) -> float:
    """Relative luminance, as WCAG 2 defines it."""
    parts = [value / 255 for value in colour]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Rgb, other: Rgb) -> float:
    """From 1 to 21, as WCAG 2 defines it."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def readable(colour: Rgb, background: Rgb) -> Rgb:
    """The colour, moved towards black or white until it can be read on ``background``."""
    end = (0, 0, 0) if luminance(background) > 0.18 else (255, 255, 255)
    for step in range(_STEPS + 1):
        mixed = _mix(colour, end, step / _STEPS)
        if contrast(mixed, background) >= CONTRAST:
            return mixed
    return end


def _mix(colour: Rgb, end: Rgb, part: float) -> Rgb:
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(colour, end, strict=True))
    return red, green, blue


@lru_cache(maxsize=4096)
def foreground(colour: Rgb) -> str:
    """A CSS colour for text, readable in both themes."""
    return f"light-dark({_hex(readable(colour, LIGHT))},{_hex(readable(colour, DARK))})"


@lru_cache(maxsize=4096)
def on_background(text: Rgb | None, background: Rgb) -> str:
    """CSS colours of text on a background of its own, the same in both themes."""
    default = (0, 0, 0) if luminance(background) > 0.18 else (255, 255, 255)
    return f"color:{_hex(readable(text or default, background))};background:{_hex(background)}"


def _hex(colour: Rgb) -> str:
    return "#" + bytes(colour).hex()
