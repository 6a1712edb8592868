"""How a picture is turned upright by its EXIF data, and laid on white where it is see-through."""

from __future__ import annotations

from typing import Any, Final

ORIENTATION: Final = 0x0112  # the EXIF and TIFF tag; 5 to 8 stand on their side
ON_ITS_SIDE: Final = (5, 6, 7, 8)


def orientation_of(image: Any) -> int:
    """The EXIF orientation, 1 to 8. A damaged EXIF block says nothing, and the pixels are fine."""
    try:
        found = int(image.getexif().get(ORIENTATION, 1))
    except Exception:
        return 1
    return found if 1 <= found <= 8 else 1


def turned_upright(image: Any, orientation: int) -> Any:
    """The Pillow image as a viewer shows it."""
    from PIL import Image

    turns = Image.Transpose
    steps = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }
    return image.transpose(steps[orientation]) if orientation in steps else image


def on_white(image: Any) -> Any:
    """The Pillow image as RGB with 8 bits a channel, transparent pixels on white."""
    from PIL import Image

    if "transparency" in image.info or image.mode in ("RGBA", "LA", "La", "PA", "RGBa"):
        image = image.convert("LA") if image.mode == "La" else image
        seen = image.convert("RGBA")
        ground = Image.new("RGB", seen.size, "white")
        ground.paste(seen, mask=seen.getchannel("A"))
        return ground
    return image if image.mode == "RGB" else image.convert("RGB")
