"""The tag store: what is known about each image, in a folder that runs share; journal first, Parquet parts later."""

from imgtag_pipeline.checkpoint.store import (
    Compacted,
    StoreSummary,
    TagStore,
    Tuning,
    compact,
    describe,
    open_store,
    outcomes,
)

__all__ = ["Compacted", "StoreSummary", "TagStore", "Tuning", "compact", "describe", "open_store", "outcomes"]
