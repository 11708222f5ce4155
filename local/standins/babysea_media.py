"""
Output files of the BabySea stand-in: real pictures and films, painted from the prompt.

The same prompt, seed and index always give the same bytes, and other ones give others, so a test
can tell whose file it holds. An input image becomes the backdrop, so it can be seen that it was
read. No model is involved; the caption says so.
"""

from __future__ import annotations

import io
import itertools
import math
import random
import textwrap
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from local.standins.babysea_video import mp4

Colour = tuple[int, int, int]

FORMATS = {
    "png": ("PNG", "image/png"),
    "jpg": ("JPEG", "image/jpeg"),
    "webp": ("WEBP", "image/webp"),
    "mp4": ("MP4", "video/mp4"),
}
FRAMES_PER_SECOND = 12
_LONG_SIDE = 512
_LONG_SIDE_OF_VIDEO = 384
_OVERSAMPLING = 2  # Pillow draws without smoothing edges
_DAYLIGHT = 250  # sum of a sky's colours from which on no stars are seen
_CAPTION = "made by the local BabySea stand-in"


@dataclass(frozen=True)
class Palette:
    """Colours of one mood, from the top of the sky to the nearest ridge."""

    high: Colour
    middle: Colour
    low: Colour
    light: Colour
    near: Colour


_PALETTES = (
    Palette((26, 32, 74), (138, 73, 126), (255, 158, 109), (255, 229, 180), (24, 18, 48)),
    Palette((9, 32, 63), (49, 104, 140), (166, 214, 214), (255, 248, 220), (8, 28, 48)),
    Palette((58, 12, 61), (199, 62, 92), (255, 190, 92), (255, 236, 160), (38, 6, 44)),
    Palette((12, 18, 38), (31, 78, 95), (92, 196, 160), (220, 255, 236), (6, 20, 30)),
    Palette((72, 118, 176), (160, 196, 226), (250, 230, 205), (255, 255, 240), (38, 62, 84)),
    Palette((30, 20, 60), (88, 60, 150), (226, 150, 210), (255, 220, 250), (20, 12, 44)),
    Palette((60, 66, 44), (168, 146, 84), (244, 214, 150), (255, 246, 210), (34, 36, 22)),
)


@dataclass(frozen=True)
class Picture:
    """What is to be painted. `source` is the input image's file, if there is one."""

    prompt: str
    ratio: str = "1:1"
    seed: int = 0
    index: int = 0
    source: bytes | None = None

    def image(self, file_format: str) -> bytes:
        """Return the picture as a `png`, `jpg` or `webp` file."""
        painting = _Painting(self, _size(self.ratio, _LONG_SIDE, 1))
        painting.light()
        file = io.BytesIO()
        quality = {} if file_format == "png" else {"quality": 88}
        painting.finished().save(file, FORMATS[file_format][0], **quality)
        return file.getvalue()

    def film(self, seconds: int) -> bytes:
        """Return an MP4 file of that length: the light of the scene wanders across its sky."""
        width, height = size = _size(self.ratio, _LONG_SIDE_OF_VIDEO, 16)
        painting = _Painting(self, size)
        backdrop = painting.finished()
        count = seconds * FRAMES_PER_SECOND
        frames = []
        for number in range(count):
            way = number / (count - 1)
            centre = (width * (0.1 + 0.8 * way), height * (0.42 - 0.24 * math.sin(math.pi * way)))
            frame = backdrop.copy()
            _glow(frame, centre, min(size) // 4, painting.palette.light, 0.7)
            _disc(frame, centre, min(size) // 13, painting.palette.light)
            frames.append(frame)
        return mp4(frames, FRAMES_PER_SECOND)


def readable(file: bytes) -> bool:
    """Tell whether `file` is a JPEG, PNG or WebP picture."""
    try:
        with Image.open(io.BytesIO(file), formats=("JPEG", "PNG", "WEBP")) as image:
            image.load()
    except (OSError, ValueError, Image.DecompressionBombError):
        return False
    return True


class _Painting:
    """A canvas at twice the final size, and the random numbers that belong to its prompt."""

    def __init__(self, picture: Picture, size: tuple[int, int]) -> None:
        self._picture = picture
        self._size = size
        self._random = random.Random(f"{picture.prompt}|{picture.seed}|{picture.index}")
        self.palette = self._mood()
        self.width, self.height = (side * _OVERSAMPLING for side in size)
        self.sun = (
            self.width * self._random.uniform(0.2, 0.8),
            self.height * self._random.uniform(0.2, 0.4),
        )
        self.canvas = self._sky()
        scenes: tuple[Callable[[], None], ...] = (self._ridges, self._sea, self._worlds)
        self._foreground = self._random.choice(scenes)

    def finished(self) -> Image.Image:
        """Return the picture in its final size, with foreground and prompt."""
        self._foreground()
        image = self.canvas.resize(self._size, Image.Resampling.LANCZOS)
        _write(image, self._picture.prompt)
        return image

    def light(self) -> None:
        """Put the sun of the scene into the sky."""
        radius = int(self.width * self._random.uniform(0.035, 0.075))
        _glow(self.canvas, self.sun, radius * 6, self.palette.light, 0.55)
        _glow(self.canvas, self.sun, radius * 2, self.palette.light, 0.9)
        _disc(self.canvas, self.sun, radius, self.palette.light)

    def _mood(self) -> Palette:
        palette = self._random.choice(_PALETTES)
        shift = self._random.uniform(-0.12, 0.12)
        return replace(
            palette,
            high=_mix(palette.high, palette.near, abs(shift)),
            middle=_mix(palette.middle, palette.high if shift > 0 else palette.low, abs(shift) * 2),
        )

    def _sky(self) -> Image.Image:
        size = (self.width, self.height)
        grey = Image.linear_gradient("L").resize(size)
        sky = ImageOps.colorize(
            grey, self.palette.high, self.palette.low, self.palette.middle, 0, 190, 110
        )
        star = _mix(self.palette.light, self.palette.high, 0.4)
        for _ in range(90 if sum(self.palette.high) < _DAYLIGHT else 0):
            x, y = self._random.random() * self.width, self._random.random() ** 2 * self.height / 2
            _disc(sky, (x, y), self._random.choice((1, 1, 2)), star)
        if self._picture.source is None:
            return sky
        with Image.open(io.BytesIO(self._picture.source)) as source:
            return Image.blend(sky, ImageOps.fit(source.convert("RGB"), size), 0.75)

    def _ridges(self, first: float = 0.52, layers: int = 5) -> None:
        for layer in range(layers):
            depth = (layer + 1) / layers
            outline = self._outline(0.16 + 0.1 * (1 - depth))
            base = self.height * (first + 0.42 * layer / layers)
            colour = _mix(self.palette.low, self.palette.near, 0.25 + 0.75 * depth)
            self._mountains(base, outline, colour, _mix(colour, self.palette.low, 0.45))

    def _mountains(self, base: float, outline: list[float], crest: Colour, foot: Colour) -> None:
        mask = Image.new("L", self.canvas.size)
        step = self.width / (len(outline) - 1)
        points = [(i * step, base - height * self.height) for i, height in enumerate(outline)]
        corners = [(self.width, self.height), (0, self.height)]
        ImageDraw.Draw(mask).polygon([*points, *corners], fill=255)
        top = int(min(y for _, y in points))
        shade = Image.linear_gradient("L").resize((self.width, max(1, self.height - top)))
        slope = Image.new("RGB", self.canvas.size, crest)
        slope.paste(ImageOps.colorize(shade, crest, foot), (0, top))
        self.canvas.paste(slope, mask=mask)

    def _outline(self, roughness: float) -> list[float]:
        """Return heights as shares of the canvas, by displacing midpoints."""
        heights = [self._random.uniform(-0.3, 0.6) * roughness for _ in range(4)]
        while len(heights) < 200:
            roughness *= 0.52
            between = [
                (a + b) / 2 + self._random.uniform(-1, 1) * roughness / 2
                for a, b in itertools.pairwise(heights)
            ]
            pairs = zip(heights, between, strict=False)
            heights = [*(height for pair in pairs for height in pair), heights[-1]]
        return heights

    def _sea(self) -> None:
        horizon = int(self.height * self._random.uniform(0.56, 0.66))
        far = _mix(self.palette.low, self.palette.near, 0.55)
        self._mountains(horizon, self._outline(0.12), far, far)
        above = self.canvas.crop((0, 2 * horizon - self.height, self.width, horizon))
        mirrored = ImageOps.flip(above)
        water = Image.blend(
            mirrored.filter(ImageFilter.GaussianBlur(6)),
            Image.new("RGB", mirrored.size, self.palette.near),
            0.35,
        )
        self.canvas.paste(water, (0, horizon))
        draw = ImageDraw.Draw(self.canvas, "RGBA")
        for _ in range(160):
            depth = self._random.random()
            y = horizon + depth**1.6 * (self.height - horizon)
            spread = self.width * (0.03 + 0.16 * depth)
            x = self.sun[0] + self._random.gauss(0, spread)
            half = self.width * self._random.uniform(0.008, 0.04) * (0.4 + depth)
            thick = 1 + 3 * depth
            alpha = self._random.randrange(50, 150)
            draw.ellipse((x - half, y - thick, x + half, y + thick), (*self.palette.light, alpha))

    def _worlds(self) -> None:
        for _ in range(self._random.randint(3, 5)):
            radius = int(self.width * self._random.uniform(0.06, 0.19))
            x = self.width * self._random.random()
            y = self.height * self._random.uniform(0.25, 0.8)
            colours = (self.palette.low, self.palette.middle, self.palette.light)
            _ball(self.canvas, (x, y), radius, self._random.choice(colours), self.palette.near)
        self._ridges(first=0.8, layers=2)


def _size(ratio: str, long_side: int, multiple: int) -> tuple[int, int]:
    across, _, down = ratio.partition(":")
    scale = long_side / max(int(across), int(down))
    return (
        round(int(across) * scale / multiple) * multiple,
        round(int(down) * scale / multiple) * multiple,
    )


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    r, g, b = (round(a + (z - a) * share) for a, z in zip(one, other, strict=True))
    return r, g, b


def _glow(
    canvas: Image.Image, centre: tuple[float, float], radius: int, colour: Colour, strength: float
) -> None:
    fading = [round(strength * max(0, 255 - v * 255 // 180) ** 2 / 255) for v in range(256)]
    mask = Image.radial_gradient("L").point(fading).resize((2 * radius, 2 * radius))
    canvas.paste(colour, _corner(centre, radius), mask)


def _disc(canvas: Image.Image, centre: tuple[float, float], radius: int, colour: Colour) -> None:
    x, y = centre
    ImageDraw.Draw(canvas).ellipse((x - radius, y - radius, x + radius, y + radius), colour)


def _ball(
    canvas: Image.Image, centre: tuple[float, float], radius: int, lit: Colour, dark: Colour
) -> None:
    side = 2 * radius
    shade = Image.radial_gradient("L").resize((2 * side, 2 * side))
    shade = shade.crop((side * 5 // 8, side * 5 // 8, side * 13 // 8, side * 13 // 8))
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).ellipse((0, 0, side - 1, side - 1), fill=235)
    canvas.paste(ImageOps.colorize(shade, lit, dark), _corner(centre, radius), mask)


def _corner(centre: tuple[float, float], radius: int) -> tuple[int, int]:
    return int(centre[0]) - radius, int(centre[1]) - radius


def _write(image: Image.Image, prompt: str) -> None:
    """Write the prompt and the caption along the lower edge."""
    width, height = image.size
    size, small_size = max(13, width // 22), max(9, width // 44)
    title, small = ImageFont.load_default(size), ImageFont.load_default(small_size)
    across = max(8, int(width * 0.9 / title.getlength("n")))
    # Pillow's built-in font knows ASCII only.
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode()
    lines = textwrap.wrap(" ".join(plain.split()), across, max_lines=3, placeholder=" ...")
    line_height = round(size * 1.25)
    panel = line_height * len(lines) + round(small_size * 2.6)
    fade = Image.linear_gradient("L").point([v * 2 // 3 for v in range(256)])
    fade = fade.resize((width, panel * 2))
    image.paste((0, 0, 0), (0, height - panel * 2), fade)
    draw = ImageDraw.Draw(image)
    y = height - panel
    for line in lines:
        draw.text((width // 20, y), line, (255, 255, 255), title)
        y += line_height
    draw.text((width // 20, y + small_size // 3), _CAPTION, (210, 210, 215), small)
