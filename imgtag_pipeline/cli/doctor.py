"""`imgtag doctor`: finds out in words what is wrong with credentials, clock, endpoint, region or purchase.

At most one call is made, never repeated, and it is said beforehand what it may cost.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

from imgtag_pipeline.errors import (
    CallError,
    ClockSkewError,
    ConfigError,
    CredentialsExpiredError,
    FatalError,
    PermanentError,
    ThrottledError,
    TransientError,
)
from imgtag_pipeline.images import ImageReader
from imgtag_pipeline.model import (
    Answer,
    Call,
    Compute,
    Image,
    Moment,
    ReadImage,
    ReadImages,
    Reply,
    Result,
    Step,
)
from imgtag_pipeline.providers.contract import Computing, Prechecking, Preparing, Provider
from imgtag_pipeline.spend import pricing
from imgtag_pipeline.transport.http import Transport

Say = Callable[[str], None]

# A name that never resolves (RFC 2606): there is no such image, so the vendor's answer is a refusal of the image, which
# comes after key, clock and purchase were looked at, and which is not billed where failures are free.
NO_IMAGE: Final = "https://imgtag-doctor.invalid/a.jpg"
FINE, BAD = 0, 3
TOLERATED: Final = timedelta(seconds=60)
UNREACHED: Final = {
    "DnsError": "its name is not known to DNS; check endpoint=, region= and the network",
    "ConnectionRefused": "nobody listens there; check endpoint= and its port, or start the server",
    "ConnectTimeout": "it does not answer; check endpoint=, the firewall and the proxy",
    "TlsError": "TLS failed; check that endpoint= begins with the right http:// or https://, and this machine's clock",
}


@dataclass(slots=True)
class Doctor:
    """Examines one provider. `image` is asked about; without one, an address that does not exist."""

    provider: Provider
    say: Say
    image: str | None = None
    makes_call: bool = True

    def examine(self) -> int:
        """Say what is right and what is wrong; 0 fine, 2 the caller's mistake, 3 the vendor will not serve."""
        self._line("provider", f"{self.provider.address}: {self.provider.facts.title}")
        if isinstance(self.provider, Computing):
            return self._examine_here(self.provider)
        if isinstance(self.provider, Preparing):
            self.provider.prepare()
            self._line("credentials", "found; whether the vendor knows them, only a call can tell")
        else:
            self._line("credentials", "none are needed")
        return asyncio.run(self._examine_call())

    def _examine_here(self, provider: Computing) -> int:
        """What it is, what it can say, and how fast it is: there is no vendor to ask."""
        for name, words in provider.described():
            self._line(name, words)
        each = provider.seconds_an_image()
        self._line("speed", f"about {1 / each:,.0f} images a second on one core of this machine")
        if self.image is None:
            self._line("call", "none is needed: it works on this machine")
            return FINE
        result = asyncio.run(self._computed(self._image()))
        if isinstance(result, Answer):
            sure = sorted(result.tags, key=lambda tag: -(tag.confidence or 0.0))
            told = ", ".join(f"{tag.name} {tag.confidence or 0:.2f}" for tag in sure[:5])
            self._line("image", told or "nothing is told of it")
            return FINE
        self._line("image", str(result), is_good=False)
        return BAD

    async def _computed(self, image: Image) -> Result:
        """What one image comes to, its steps carried out one after the other."""
        exchange = self.provider.exchange([image], {})
        async with Transport(connections=1, allow_private=True) as transport:
            reader = ImageReader(transport.download, allow_private=True)
            try:
                step = next(exchange)
                while True:
                    step = exchange.send(await _carried_out(step, reader))
            except StopIteration as done:
                (result,) = done.value
                found: Result = result
                return found
            except PermanentError as error:
                return error
            finally:
                exchange.close()

    async def _examine_call(self) -> int:
        image = self._image()
        async with Transport(connections=1, allow_private=True) as transport:  # the image is the caller's own
            call = await self._first_call(image, ImageReader(transport.download, allow_private=True))
            if call is None:
                self._line("call", "none is needed: this provider works on this machine")
                return FINE
            host = urlsplit(call.request.url).netloc
            if not self.makes_call:
                self._line("call", f"left out; it would have gone to {host}. Key, clock and purchase are not proven")
                return FINE
            self._line("call", f"one call will be made to {host}; {self._cost(call)}")
            sent = datetime.now(UTC)
            try:
                request = self.provider.sign(call.request, Moment(sent, secrets.token_hex(16)))
                reply = await transport.send(request, timeout=call.timeout, max_bytes=call.max_reply_bytes)
            except CallError as error:
                return self._unreached(host, error)
        self._line("endpoint", f"{host} answers (HTTP {reply.status})")
        is_on_time = self._clock(reply, sent)
        return self._verdict(call, reply, is_on_time)

    def _image(self) -> Image:
        if self.image is None and self.makes_call and self.provider.facts.image_as == ("object",):
            raise ConfigError(
                f"{self.provider.address} asks about an object in a bucket of yours; give --image oss://bucket/key"
            )
        url = self.image or ("oss://bucket/imgtag-doctor.jpg" if "object" in self.provider.facts.image_as else NO_IMAGE)
        precheck = self.provider.precheck(url) if isinstance(self.provider, Prechecking) else None
        if precheck is not None:
            raise ConfigError(f"this image would be refused without a call ({precheck}); give another --image")
        return Image(self.provider.key(url), url)

    async def _first_call(self, image: Image, reader: ImageReader) -> Call | None:
        """Go through the conversation up to its first call; a step before that is carried out."""
        if "url" not in self.provider.facts.image_as and "object" not in self.provider.facts.image_as:
            return None
        exchange = self.provider.exchange([image], {})
        try:
            step = next(exchange)
            while not isinstance(step, Call):
                step = exchange.send(await _carried_out(step, reader))
        except StopIteration as done:
            raise ConfigError(f"this image needs no call ({done.value[0]}); give another --image") from None
        except CallError as error:
            raise ConfigError(f"the image cannot be read ({error}); give another --image") from None
        finally:
            exchange.close()
        return step

    def _cost(self, call: Call) -> str:
        if not call.is_billable:
            return "it costs nothing"
        price = self.provider.price
        if price is None:
            return f"it may cost something ({self.provider.facts.price})"
        return f"it may cost {price.tiers[0][1] / pricing.MICRO:g} yuan"

    def _unreached(self, host: str, error: CallError) -> int:
        self._line("endpoint", f"{host} was not reached: {UNREACHED.get(error.code, str(error))}", is_good=False)
        return BAD

    def _clock(self, reply: Reply, sent: datetime) -> bool:
        """Compare this machine's clock with the reply's; they are compared whether or not the vendor complained."""
        try:
            ahead = sent - parsedate_to_datetime(reply.headers.get("date", "")).astimezone(UTC)
        except ValueError:
            return True
        if abs(ahead) <= TOLERATED:
            self._line("clock", "right")
            return True
        way = "ahead" if ahead > timedelta() else "behind"
        words = f"{abs(ahead.total_seconds()):,.0f} s {way} of the vendor's; set this machine's clock (NTP)"
        self._line("clock", words, is_good=False)
        return False

    def _verdict(self, call: Call, reply: Reply, is_on_time: bool) -> int:
        try:
            self.provider.check(call, reply)
        except ThrottledError as error:
            self._line("key", f"accepted; the quota is used up at this moment ({error.code})")
        except (ClockSkewError, CredentialsExpiredError, FatalError) as error:
            self._line("refused", f"{error}", is_good=False)
            return BAD
        except PermanentError as error:
            return self._refused_image(error)
        except TransientError as error:
            if error.max_attempts is not None:  # a code about the image, such as a download that failed
                return self._refused_image(error)
            self._line("vendor", f"has trouble of its own, try again later: {error}", is_good=False)
            return BAD
        else:
            self._line("key", "accepted, and the action is activated: the call was answered")
        return FINE if is_on_time else BAD

    def _refused_image(self, error: CallError) -> int:
        if error.code.startswith("HTTP") or error.code == "MalformedReply":
            self._line("endpoint", f"answers, but not as this API does ({error}); check endpoint=", is_good=False)
            return BAD
        self._line("key", f"accepted; only the image was refused ({error.code})")
        if self.image is not None:
            self._line("image", str(error), is_good=False)
        return FINE

    def _line(self, what: str, words: str, *, is_good: bool = True) -> None:
        self.say(f"{'ok ' if is_good else 'BAD'} {what:<12} {words}")


async def _carried_out(step: Step, reader: ImageReader) -> Any:
    """What a step that makes no call is answered with."""
    if isinstance(step, ReadImage):
        return await reader.read(step.image.url, max_bytes=step.max_bytes, timeout=step.timeout)
    if isinstance(step, ReadImages):
        return tuple([await _read_one(reader, each, step) for each in step.images])
    return step.function() if isinstance(step, Compute) else None


async def _read_one(reader: ImageReader, image: Image, step: ReadImages) -> bytes | CallError:
    try:
        return await reader.read(image.url, max_bytes=step.max_bytes, timeout=step.timeout)
    except CallError as error:
        return error
