"""The local tagger: colour names, shares and picture facts from the pixels, with Pillow and NumPy alone."""

from imgtag_pipeline.tagger.colors import COLOR_NAMES
from imgtag_pipeline.tagger.decode import MAX_PIXELS
from imgtag_pipeline.tagger.facts import RULES
from imgtag_pipeline.tagger.sniff import FORMATS
from imgtag_pipeline.tagger.tagger import VERSION, describe

__all__ = ["COLOR_NAMES", "FORMATS", "MAX_PIXELS", "RULES", "VERSION", "describe"]
