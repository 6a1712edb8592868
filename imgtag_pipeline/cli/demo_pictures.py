"""The demo's pictures, drawn with Pillow: a dozen that differ in what the tagger tells apart, and two broken files.

The same pixels each time; the bytes of a compressed file may differ between Pillow's releases.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

Color = tuple[int, int, int]
_FINE = 2  # drawn at twice the size, then halved, for smooth edges


@dataclass(frozen=True, slots=True)
class Sample:
    """One file: its name, its bytes, and in a few words what it shows."""

    name: str
    data: bytes = field(repr=False)
    shows: str
    is_broken: bool = False


def draw_samples() -> tuple[Sample, ...]:
    """Twelve pictures, each of another kind, then a torn JPEG and a web page that is named like one."""
    sunset = _encode(_sunset(), "JPEG", quality=88)
    page = b"<!DOCTYPE html>\n<html><head><title>404</title></head><body>This image has moved.</body></html>\n"
    spinner = _spinner()
    return (
        Sample("sunset.jpg", sunset, "the sun going down over the sea"),
        Sample("forest.jpg", _encode(_forest(), "JPEG", quality=88), "firs in the mist"),
        Sample("portrait.jpg", _encode(_portrait(), "JPEG", quality=88), "an old studio portrait, in grey"),
        Sample("bokeh.jpg", _encode(_bokeh(), "JPEG", quality=88), "street lights out of focus"),
        Sample("chess.png", _encode(_chess(), "PNG", optimize=True), "a chess board from above"),
        Sample("logo.png", _encode(_logo(), "PNG", optimize=True), "a logo on nothing"),
        Sample("spinner.gif", _encode(spinner[0], "GIF", save_all=True, append_images=spinner[1:]), "a spinner"),
        Sample("lemons.jpg", _rotated_jpeg(_lemons()), "lemons, upright by EXIF rotation only"),
        Sample("mountains.jpg", _encode(_mountains(), "JPEG", quality=88), "a mountain panorama"),
        Sample("screenshot.png", _encode(_screenshot(), "PNG", optimize=True), "a phone's screenshot"),
        Sample("night.jpg", _encode(_night(), "JPEG", quality=88), "a city at night"),
        Sample("snow.webp", _encode(_snow(), "WEBP", quality=88), "a hut in the snow"),
        Sample("torn.jpg", sunset[: len(sunset) // 3], "a download that broke off", is_broken=True),
        Sample("moved.jpg", page, "a web page that is named like a picture", is_broken=True),
    )


def write_samples(folder: Path) -> list[Path]:
    """The samples as files in `folder`, which is made; their paths in the same order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for sample in draw_samples():
        path = folder / sample.name
        path.write_bytes(sample.data)
        paths.append(path)
    return paths


# --- drawing ----------------------------------------------------------------------------------------------------


def _gradient(width: int, height: int, stops: Sequence[Color]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A canvas of twice the size, shaded from top to bottom through the colours, and a pen for it."""
    from PIL import Image, ImageDraw

    rows = np.linspace(0, len(stops) - 1, height * _FINE)
    column = np.stack(
        [np.interp(rows, range(len(stops)), [stop[band] for stop in stops]) for band in range(3)], axis=-1
    )
    pixels = np.repeat(column[:, None, :], width * _FINE, axis=1)
    image = Image.fromarray(np.rint(pixels).astype(np.uint8))
    return image, ImageDraw.Draw(image)


def _ridge(pen: Any, width: int, base: int, height: int, color: Color, seed: int) -> None:
    """A mountain ridge along the whole width, filled to the bottom."""
    dice = _dice(seed)
    waves = [(dice.uniform(1, 9), dice.uniform(0, 6.3), dice.uniform(0.3, 1)) for _ in range(6)]
    x = np.arange(0, width + 1, 2)
    y = sum((1 - np.abs(np.sin(x / width * speed + phase))) * part for speed, phase, part in waves) / 6
    line = [(float(a), float(base - b * height)) for a, b in zip(x, np.asarray(y), strict=True)]
    pen.polygon([*line, (width, 4 * base + height), (0, 4 * base + height)], fill=color)


def _dice(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - it places trees, it guards nothing


def _disc(pen: Any, x: float, y: float, radius: float, color: Any) -> None:
    pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=color)


def _halved(image: Image.Image) -> Image.Image:
    return image.reduce(_FINE)


def _encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _rotated_jpeg(upright: Image.Image) -> bytes:
    """A JPEG that lies on its side and says so in its EXIF data, as phones write it."""
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    return _encode(upright.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=88, exif=exif)


# --- the pictures -----------------------------------------------------------------------------------------------


def _sunset() -> Image.Image:
    image, pen = _gradient(720, 480, [(72, 44, 110), (196, 72, 84), (250, 150, 50), (255, 206, 96)])
    _disc(pen, 860, 620, 110, (255, 236, 170))
    pen.ellipse([-420, 540, 560, 900], fill=(64, 30, 66))
    pen.ellipse([180, 606, 760, 900], fill=(64, 30, 66))
    pen.rectangle([0, 660, 1440, 960], fill=(120, 52, 74))
    dice = _dice(1)
    for row in range(28):
        y = 664 + row * 10
        reach = 60 + row * 9
        x = 860 + dice.uniform(-30, 30)
        pen.line([(x - reach * dice.random(), y), (x + reach * dice.random(), y)], fill=(255, 186, 96), width=5)
    return _halved(image)


def _forest() -> Image.Image:
    image, pen = _gradient(720, 480, [(196, 220, 190), (150, 190, 140), (110, 160, 96)])
    dice = _dice(7)
    for depth, color in enumerate([(120, 170, 110), (74, 138, 74), (40, 104, 52), (18, 66, 34)]):
        base = 560 + depth * 130
        for _ in range(16):
            x, tall = dice.uniform(-40, 1480), dice.uniform(260, 420) * (0.7 + depth * 0.22)
            for step in range(4):
                top, wide = base - tall + step * tall * 0.2, tall * (0.10 + 0.06 * step)
                pen.polygon([(x, top), (x - wide, top + tall * 0.34), (x + wide, top + tall * 0.34)], fill=color)
        pen.rectangle([0, base - 30, 1440, 960], fill=color)
    return _halved(image)


def _portrait() -> Image.Image:
    image, pen = _gradient(450, 600, [(96, 96, 96), (150, 150, 150), (70, 70, 70)])
    pen.ellipse([130, 860, 770, 1700], fill=(38, 38, 38))
    pen.polygon([(390, 850), (510, 850), (450, 1080)], fill=(222, 222, 222))
    pen.rectangle([395, 740, 505, 890], fill=(150, 150, 150))
    pen.ellipse([295, 330, 605, 790], fill=(186, 186, 186))
    pen.pieslice([275, 280, 625, 720], 180, 360, fill=(30, 30, 30))
    for x in (275, 570):
        pen.ellipse([x, 440, x + 55, 620], fill=(30, 30, 30))
    for x in (385, 515):
        pen.ellipse([x - 28, 535, x + 28, 563], fill=(240, 240, 240))
        _disc(pen, x, 549, 13, (20, 20, 20))
        pen.arc([x - 40, 500, x + 40, 560], 200, 340, fill=(50, 50, 50), width=8)
    pen.line([(450, 560), (436, 650), (462, 655)], fill=(120, 120, 120), width=7)
    pen.arc([400, 640, 500, 710], 20, 160, fill=(84, 84, 84), width=9)
    return _halved(image).convert("L")


def _bokeh() -> Image.Image:
    from PIL import ImageFilter

    image, pen = _gradient(640, 480, [(24, 20, 54), (70, 36, 84), (34, 24, 60)])
    dice = _dice(5)
    lights = [(255, 170, 70), (255, 90, 120), (120, 130, 255), (250, 220, 120), (90, 200, 220)]
    for _ in range(46):
        _disc(pen, dice.uniform(0, 1280), dice.uniform(120, 860), dice.uniform(26, 80), dice.choice(lights))
    return _halved(image).filter(ImageFilter.GaussianBlur(14))


def _chess() -> Image.Image:
    image, pen = _gradient(520, 520, [(12, 12, 12), (12, 12, 12)])
    for place in range(64):
        x, y = place % 8 * 120 + 40, place // 8 * 120 + 40
        dark = (place + place // 8) % 2
        pen.rectangle([x, y, x + 119, y + 119], fill=(20, 20, 20) if dark else (250, 250, 250))
        if place // 8 in (0, 1, 6, 7) and (place + place // 8) % 3:
            _disc(pen, x + 60, y + 60, 36, (235, 235, 235) if place < 32 else (40, 40, 40))
            _disc(pen, x + 60, y + 60, 26, (250, 250, 250) if place < 32 else (8, 8, 8))
    return _halved(image)


def _logo() -> Image.Image:
    from PIL import Image, ImageDraw

    image = Image.new("RGBA", (800, 800))
    pen = ImageDraw.Draw(image)
    for turn, color in enumerate([(230, 60, 60), (250, 170, 40), (60, 170, 90), (50, 110, 220)]):
        pen.pieslice([80, 80, 720, 720], turn * 90 + 6, turn * 90 + 84, fill=(*color, 255))
    _disc(pen, 400, 400, 150, (0, 0, 0, 0))
    _disc(pen, 400, 400, 90, (50, 110, 220, 255))
    return _halved(image)


def _spinner() -> list[Image.Image]:
    frames = []
    for frame in range(8):
        image, pen = _gradient(240, 240, [(244, 246, 250), (244, 246, 250)])
        for dot in range(8):
            angle = dot * np.pi / 4
            fade = (dot - frame) % 8 / 7
            shade = (round(214 - 190 * fade), round(222 - 130 * fade), round(236 - 20 * fade))
            _disc(pen, 240 + 150 * np.cos(angle), 240 + 150 * np.sin(angle), 38, shade)
        frames.append(_halved(image))
    return frames


def _lemons() -> Image.Image:
    image, pen = _gradient(420, 560, [(58, 150, 190), (40, 116, 160)])
    pen.rectangle([0, 700, 840, 1120], fill=(226, 232, 232))
    pen.ellipse([90, 700, 750, 960], fill=(250, 252, 252))
    pen.ellipse([150, 724, 690, 900], fill=(212, 224, 228))
    for x, y, size in ((300, 640, 150), (540, 660, 140), (420, 510, 145)):
        pen.ellipse([x - size * 1.25, y - size * 0.25, x + size * 1.25, y + size * 0.25], fill=(236, 196, 30))
        _disc(pen, x, y, size, (250, 214, 40))
        _disc(pen, x - size * 0.3, y - size * 0.35, size * 0.3, (255, 236, 120))
    pen.polygon([(420, 380), (520, 270), (620, 300), (540, 370)], fill=(60, 140, 60))
    return _halved(image)


def _mountains() -> Image.Image:
    image, pen = _gradient(1400, 400, [(86, 150, 220), (170, 206, 240), (226, 238, 246)])
    layers = [
        (430, 330, (132, 160, 196)),
        (540, 330, (92, 122, 164)),
        (660, 300, (58, 90, 120)),
        (770, 240, (52, 96, 70)),
    ]
    for seed, (base, height, color) in enumerate(layers):
        _ridge(pen, 2800, base, height, color, seed + 20)
    return _halved(image)


def _screenshot() -> Image.Image:
    image, pen = _gradient(360, 780, [(246, 247, 249), (246, 247, 249)])
    pen.rectangle([0, 0, 720, 150], fill=(30, 110, 220))
    _disc(pen, 80, 100, 34, (240, 244, 250))
    pen.rounded_rectangle([140, 84, 420, 116], 14, fill=(240, 244, 250))
    dice = _dice(11)
    y = 190
    while y < 1380:
        mine, lines = dice.random() < 0.45, dice.randint(1, 4)
        left, right = (200, 690) if mine else (30, 520)
        pen.rounded_rectangle(
            [left, y, right, y + 40 + lines * 40], 30, fill=(30, 110, 220) if mine else (224, 227, 232)
        )
        for line in range(lines):
            end = right - 40 - (dice.randint(40, 200) if line == lines - 1 else 0)
            top = y + 32 + line * 40
            pen.rounded_rectangle([left + 36, top, end, top + 14], 7, fill=(220, 232, 250) if mine else (90, 96, 104))
        y += 70 + lines * 40
    pen.rounded_rectangle([30, 1460, 690, 1530], 35, fill=(224, 227, 232))
    return _halved(image)


def _night() -> Image.Image:
    image, pen = _gradient(640, 480, [(4, 6, 18), (10, 14, 36), (24, 28, 56)])
    dice = _dice(2)
    for _ in range(90):
        _disc(pen, dice.uniform(0, 1280), dice.uniform(0, 520), dice.uniform(1, 3), (200, 206, 230))
    _disc(pen, 1010, 180, 74, (232, 230, 210))
    _disc(pen, 980, 164, 66, (6, 9, 24))
    x = -20
    while x < 1280:
        wide, top = dice.randint(80, 150), dice.randint(420, 740)
        pen.rectangle([x, top, x + wide, 960], fill=(8, 9, 16))
        for row in range(top + 24, 940, 34):
            for column in range(x + 14, x + wide - 18, 26):
                if dice.random() < 0.3:
                    pen.rectangle([column, row, column + 12, row + 16], fill=(250, 204, 110))
        x += wide + dice.randint(0, 14)
    return _halved(image)


def _snow() -> Image.Image:
    image, pen = _gradient(640, 480, [(206, 222, 240), (232, 240, 248), (248, 250, 252)])
    _ridge(pen, 1280, 560, 240, (222, 232, 242), 31)
    _ridge(pen, 1280, 700, 160, (244, 247, 250), 33)
    pen.rectangle([760, 520, 1000, 700], fill=(120, 74, 48))
    pen.polygon([(720, 530), (880, 400), (1040, 530)], fill=(252, 253, 254))
    pen.rectangle([850, 590, 910, 700], fill=(70, 42, 30))
    pen.rectangle([780, 570, 826, 620], fill=(255, 214, 120))
    pen.ellipse([-300, 660, 1700, 1300], fill=(252, 253, 254))
    dice = _dice(4)
    for _ in range(260):
        _disc(pen, dice.uniform(0, 1280), dice.uniform(0, 960), dice.uniform(2, 5), (255, 255, 255))
    return _halved(image)
