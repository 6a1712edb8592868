"""`df.imgtag` and `series.imgtag`: the verbs of `api`, beside the data. They keep no state."""

from __future__ import annotations

from typing import Unpack

import pandas as pd

from imgtag_pipeline import api
from imgtag_pipeline.core.redaction import hide_secrets
from imgtag_pipeline.options import OptionWords, spoken
from imgtag_pipeline.run.plan import Plan


@pd.api.extensions.register_dataframe_accessor("imgtag")
class FrameAccessor:
    """Image tags for a column of this frame; see `imgtag_pipeline.label` for the words."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    @spoken
    @hide_secrets
    def label(self, col: str | None = None, **words: Unpack[OptionWords]) -> pd.DataFrame:
        """The tags of the images in column `col`; see `imgtag_pipeline.label`."""
        result: pd.DataFrame = api.label(self._frame, col=col, **words)
        return result

    @spoken
    @hide_secrets
    def plan(self, col: str | None = None, **words: Unpack[OptionWords]) -> Plan:
        """What labelling would take, without a call; see `imgtag_pipeline.run.plan`."""
        return api.plan(self._frame, col=col, **words)


@pd.api.extensions.register_series_accessor("imgtag")
class SeriesAccessor:
    """Image tags for a Series of image references."""

    def __init__(self, series: pd.Series) -> None:
        self._series = series

    @spoken
    @hide_secrets
    def label(self, **words: Unpack[OptionWords]) -> pd.DataFrame:
        """The tags of these images, as a DataFrame with the Series' index; see `imgtag_pipeline.label`."""
        result: pd.DataFrame = api.label(self._series, **words)
        return result

    @spoken
    @hide_secrets
    def plan(self, **words: Unpack[OptionWords]) -> Plan:
        """What labelling would take, without a call; see `imgtag_pipeline.run.plan`."""
        return api.plan(self._series, **words)
