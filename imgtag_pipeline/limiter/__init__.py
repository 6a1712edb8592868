"""Leave to send: calls go at the pace of their quota, for all processes of a host and, through Redis, for all hosts."""

from imgtag_pipeline.limiter.lane import Slot
from imgtag_pipeline.limiter.pacer import Limiter

__all__ = ["Limiter", "Slot"]
