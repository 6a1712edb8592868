"""A contact sheet: small copies of pictures with their tags below, as one image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from imgtag_pipeline.errors import PermanentError
from imgtag_pipeline.tagger.upright import upright_image

if TYPE_CHECKING:
    from PIL.Image import Image

_SIDE: Final = 200  # pixels of a small copy
_LINE: Final = 17
_MARGIN: Final = 8
_LETTERS: Final = 28  # of a line below a picture


def contact_sheet(table: pd.DataFrame, *, columns: int = 4, tags: int = 3) -> Image:
    """Draw the pictures of a long table of local files with their first tags.

    Parameters
    ----------
    table : pandas.DataFrame
        A long table, as `df.imgtag.label` gives it: the columns url, tag, confidence and error_code are used.
    columns : int, default 4
        Pictures side by side.
    tags : int, default 3
        Tags below each.

    Returns
    -------
    PIL.Image.Image
        The sheet; a picture that cannot be read is a grey field with its error code.

    Examples
    --------
    >>> contact_sheet(df.imgtag.label(min_confidence=0.5)).save("sheet.jpg")
    """
    from PIL import Image, ImageDraw, ImageFont

    cells = [(str(url), rows) for url, rows in table.groupby("url", sort=False)]
    wide, high = _SIDE + 2 * _MARGIN, _SIDE + (tags + 1) * _LINE + 2 * _MARGIN
    count = -(-len(cells) // columns)
    sheet = Image.new("RGB", (wide * min(columns, max(len(cells), 1)), high * max(count, 1)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for place, (url, rows) in enumerate(cells):
        left, top = place % columns * wide + _MARGIN, place // columns * high + _MARGIN
        small = _small(url)
        sheet.paste(small, (left + (_SIDE - small.width) // 2, top + (_SIDE - small.height) // 2))
        for line, text in enumerate([Path(url).name, *_captions(rows, tags)]):
            shade = "black" if line == 0 else "#1f5fa8"
            pen.text((left, top + _SIDE + 4 + line * _LINE), text[:_LETTERS], fill=shade, font=font)
    return sheet


def _captions(rows: pd.DataFrame, tags: int) -> Sequence[str]:
    told = rows.dropna(subset=["tag"]).head(tags)
    captions = [
        tag if pd.isna(confidence) else f"{tag} {confidence:.2f}"
        for tag, confidence in zip(told["tag"], told["confidence"], strict=True)
    ]
    return captions or [str(code) for code in rows["error_code"].dropna().head(1)]


def _small(url: str) -> Any:
    from PIL import Image

    try:
        small = upright_image(Path(url).read_bytes(), least=_SIDE)
    except (OSError, PermanentError):
        return Image.new("RGB", (_SIDE, _SIDE), "#dddddd")
    small.thumbnail((_SIDE, _SIDE))
    return small
