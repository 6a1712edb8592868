"""Image tags beside a column of image URLs. Importing registers `df.imgtag` and `series.imgtag`, and nothing else."""

from imgtag_pipeline import accessor as _accessor
from imgtag_pipeline import providers
from imgtag_pipeline.api import alabel, enrich, label, plan
from imgtag_pipeline.errors import (
    BreakerOpen,
    CallError,
    CapReached,
    ConfigError,
    FatalError,
    ImgtagError,
    Interrupted,
    OutputError,
    PermanentError,
    RowsFailed,
    RunStopped,
    StoreError,
    ThrottledError,
    TransientError,
)
from imgtag_pipeline.run import events
from imgtag_pipeline.run.breaker import BreakerLimits
from imgtag_pipeline.run.plan import Plan
from imgtag_pipeline.run.report import RunReport
from imgtag_pipeline.run.retry_policy import RetryPolicy
from imgtag_pipeline.run.stopping import Stop

__all__ = [
    "BreakerLimits",
    "BreakerOpen",
    "CallError",
    "CapReached",
    "ConfigError",
    "FatalError",
    "ImgtagError",
    "Interrupted",
    "OutputError",
    "PermanentError",
    "Plan",
    "RetryPolicy",
    "RowsFailed",
    "RunReport",
    "RunStopped",
    "Stop",
    "StoreError",
    "ThrottledError",
    "TransientError",
    "alabel",
    "enrich",
    "events",
    "label",
    "plan",
    "providers",
]

del _accessor
