"""The tag store: what is known about each image, in a folder that runs share; journal first, Parquet parts later."""

from imgtag_pipeline.checkpoint.store import (
    Compacted,
    FlushPolicy,
    StoreSummary,
    TagStore,
    Tuning,
    compact,
    describe,
    loss_bound,
    open_store,
    outcomes,
)

__all__ = [
    "Compacted",
    "FlushPolicy",
    "StoreSummary",
    "TagStore",
    "Tuning",
    "compact",
    "describe",
    "loss_bound",
    "open_store",
    "outcomes",
]
