"""Rate limiting: one sliding window per quota key, shared by the processes of a host and, through Redis, by hosts."""

from imgtag_pipeline.limiter.limiter import Limiter
from imgtag_pipeline.limiter.queue import Slot

__all__ = ["Limiter", "Slot"]
