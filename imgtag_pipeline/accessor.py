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
        """Tag the images of this frame.

        Parameters
        ----------
        col : str, optional
            Column of image references. Default: `url`.
        **words

        Returns
        -------
        DataFrame
            In the `shape` that was asked for; the report is at `.attrs["imgtag"]`.

        Raises
        ------
        ConfigError, FatalError, CapReached, BreakerOpen, Interrupted, StoreError, RowsFailed
            As from `imgtag_pipeline.label`.

        Examples
        --------
        >>> df.imgtag.label(col="url", min_confidence=0.5)
        """
        result: pd.DataFrame = api.label(self._frame, col=col, **words)
        return result

    @spoken
    @hide_secrets
    def plan(self, col: str | None = None, **words: Unpack[OptionWords]) -> Plan:
        """Reckon what labelling would take. No call is made.

        Parameters
        ----------
        col : str, optional
            Column of image references. Default: `url`.
        **words

        Returns
        -------
        Plan
            Distinct, known, impossible and payable images, calls, yuan and finish time.

        Raises
        ------
        ConfigError
            The caller's mistake.

        Examples
        --------
        >>> df.imgtag.plan(provider="viapi/TaggingImage")
        """
        return api.plan(self._frame, col=col, **words)


@pd.api.extensions.register_series_accessor("imgtag")
class SeriesAccessor:
    """Image tags for a Series of image references."""

    def __init__(self, series: pd.Series) -> None:
        self._series = series

    @spoken
    @hide_secrets
    def label(self, **words: Unpack[OptionWords]) -> pd.DataFrame:
        """Tag these images; the DataFrame has the Series' index.

        Parameters
        ----------
        **words

        Returns
        -------
        DataFrame
            In the `shape` that was asked for; the report is at `.attrs["imgtag"]`.

        Raises
        ------
        ConfigError, FatalError, CapReached, BreakerOpen, Interrupted, StoreError, RowsFailed
            As from `imgtag_pipeline.label`.

        Examples
        --------
        >>> df["url"].imgtag.label(shape="nested")
        """
        result: pd.DataFrame = api.label(self._series, **words)
        return result

    @spoken
    @hide_secrets
    def plan(self, **words: Unpack[OptionWords]) -> Plan:
        """Reckon what labelling would take. No call is made.

        Parameters
        ----------
        **words

        Returns
        -------
        Plan
            Distinct, known, impossible and payable images, calls, yuan and finish time.

        Raises
        ------
        ConfigError
            The caller's mistake.

        Examples
        --------
        >>> df["url"].imgtag.plan(provider="viapi/TaggingImage")
        """
        return api.plan(self._series, **words)
