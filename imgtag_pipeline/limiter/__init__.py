"""Leave to send: calls go at the pace of their quota, for all processes of a host and, through Redis, for all hosts."""

from imgtag_pipeline.limiter.limiter import Limiter
from imgtag_pipeline.limiter.queue import Slot

__all__ = ["Limiter", "Slot"]
