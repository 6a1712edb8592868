"""Keys and where they come from: an object, the environment, or Alibaba's own chain; never an option that is stored.

A source is asked at each signature and answers from memory; it fetches again before its keys run out.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NoReturn, Protocol, runtime_checkable

from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.providers.toolkit.credential_chain import alibaba_chain

Family = Literal["alibaba", "oss", "tencent"]

# family -> sets of names that are tried in order; in a set: key id, secret, token (optional), app id (optional set).
VARIABLES: Final[dict[str, tuple[dict[str, str], ...]]] = {
    "alibaba": (
        {
            "access_key_id": "ALIBABA_CLOUD_ACCESS_KEY_ID",
            "access_key_secret": "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
            "security_token": "ALIBABA_CLOUD_SECURITY_TOKEN",
        },
    ),
    "oss": (
        {
            "access_key_id": "OSS_ACCESS_KEY_ID",
            "access_key_secret": "OSS_ACCESS_KEY_SECRET",
            "security_token": "OSS_SESSION_TOKEN",
        },
        {
            "access_key_id": "ALIBABA_CLOUD_ACCESS_KEY_ID",
            "access_key_secret": "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
            "security_token": "ALIBABA_CLOUD_SECURITY_TOKEN",
        },
    ),
    "tencent": (
        {
            "app_id": "TENCENT_APP_ID",
            "access_key_id": "TENCENT_SECRET_ID",
            "access_key_secret": "TENCENT_SECRET_KEY",
        },
    ),
}
TEMPORARY: Final = "temporary"
_CHAIN: Final = "alibabacloud_credentials"


@dataclass(frozen=True, slots=True)
class Keys:
    """One set of keys; also a source of itself, so it can be handed to a provider as `credentials=`.

    Nothing of it is in its `repr`, and it refuses to be pickled. `app_id` is Tencent's account number, which is no
    secret; `expires_at` (UTC) belongs to temporary keys.
    """

    access_key_id: str = field(repr=False)
    access_key_secret: str = field(repr=False)
    security_token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None
    app_id: str = ""

    def __post_init__(self) -> None:
        for name in ("access_key_id", "access_key_secret"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value or not value.isascii() or any(c.isspace() for c in value):
                raise ConfigError(f"{name} must be a text without blanks; it is empty or has other characters")

    def keys(self) -> Keys:
        """These keys."""
        return self

    @property
    def account(self) -> str:
        """A short name of the account for quota keys and ledgers, from which the key id cannot be read.

        The ids of temporary keys change with every renewal and do not tell the account: all have one name.
        """
        if self.security_token is not None:
            return TEMPORARY
        return hashlib.sha256(self.access_key_id.encode()).hexdigest()[:12]

    def __reduce__(self) -> NoReturn:
        raise ConfigError(
            "keys are not put into a pickle; leave credentials= out so that each process reads its own environment, "
            "or build the provider inside the task"
        )

    def __copy__(self) -> Keys:
        return self

    def __deepcopy__(self, memo: object) -> Keys:
        return self


@runtime_checkable
class Credentials(Protocol):
    """A source of keys. Answers at once when it has some; raises `ConfigError` when there are none."""

    def keys(self) -> Keys:
        """The keys to sign with now."""
        ...


class Environment:
    """The keys of the environment variables of a family; in a pickle only the family's name."""

    __slots__ = ("_keys", "family")

    def __init__(self, family: Family) -> None:
        self.family: Family = family
        self._keys: Keys | None = None

    def keys(self) -> Keys:
        """The keys as the environment had them at the first question."""
        if self._keys is None:
            self._keys = from_env(self.family)
        return self._keys

    def refresh(self) -> bool:
        """Read the environment again; True when it has other keys now. When it has none any more, the old ones stay."""
        old, self._keys = self._keys, from_env(self.family)
        return self._keys != old

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Environment) and other.family == self.family

    def __hash__(self) -> int:
        return hash((Environment, self.family))

    def __repr__(self) -> str:
        return f"Environment({self.family!r})"

    def __reduce__(self) -> tuple[type[Environment], tuple[Family]]:
        return Environment, (self.family,)


class Fetched:
    """Keys that a function fetches, kept until `margin` before they expire and then fetched again.

    While the old ones still hold, the new ones are fetched in a thread; only the first question, and one that comes
    after the expiry, waits.
    """

    def __init__(
        self,
        fetch: Callable[[], Keys],
        *,
        margin: timedelta = timedelta(minutes=5),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._fetch = fetch
        self._margin = margin
        self._now = now
        self._lock = threading.Lock()
        self._keys: Keys | None = None
        self._thread: threading.Thread | None = None

    def keys(self) -> Keys:
        """Keys that hold now."""
        found = self._keys
        left = found.expires_at - self._now() if found and found.expires_at else timedelta.max
        if found is None or left <= timedelta():
            self.refresh()
        elif left <= self._margin and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._try, name="imgtag-keys", daemon=True)
            self._thread.start()
        assert self._keys is not None
        return self._keys

    @property
    def is_at_hand(self) -> bool:
        """Whether keys have been fetched already."""
        return self._keys is not None

    def refresh(self) -> bool:
        """Fetch now; True when other keys came. Blocks: call it in a thread."""
        with self._lock:
            old, self._keys = self._keys, self._fetch()
            return self._keys != old

    def _try(self) -> None:
        try:
            self.refresh()
        except ConfigError:
            return  # the old keys still hold; the next question tries again

    def __repr__(self) -> str:
        return "Fetched()"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise ConfigError("a source of keys that holds a function is not put into a pickle; build it inside the task")


class AlibabaChain(Fetched):
    """Alibaba's default chain (profile file, ECS role, OIDC, URI) through `alibabacloud-credentials`.

    The library refreshes temporary keys by itself; it is asked again every five minutes.
    """

    def __init__(self, *, client: Any = None, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._client = client
        super().__init__(self._ask, now=now)

    def _ask(self) -> Keys:
        try:
            if self._client is None:
                self._client = _chain_client()
            found = self._client.get_credential()
            token = found.access_key_id, found.access_key_secret, found.security_token or None
        except Exception as error:  # the library raises many kinds, and its texts may quote replies
            problem = type(error).__name__
        else:
            if token[0] and token[1]:
                expires = self._now() + timedelta(minutes=10) if token[2] else None
                return Keys(token[0], token[1], token[2], expires)
            problem = "it found no access key"
        tried = ", ".join(getattr(self._client, "tried", ()))
        raise ConfigError(
            f"Alibaba's credentials chain gave no keys ({f'tried: {tried}' if tried else problem}); set "
            f"{_names('alibaba')}, or write a profile in ~/.alibabacloud/credentials, or run where an ECS or OIDC role "
            "is given"
        )

    def __repr__(self) -> str:
        return "AlibabaChain()"

    def __reduce__(self) -> tuple[type[AlibabaChain], tuple[()]]:
        if self._client is not None and type(self._client).__module__.partition(".")[0] != _CHAIN:
            super().__reduce__()
        return AlibabaChain, ()


class AlibabaDefault:
    """The environment's keys when it has any, else Alibaba's chain when that library is installed."""

    __slots__ = ("_source", "family")

    def __init__(self, family: Family = "alibaba") -> None:
        self.family: Family = family
        self._source: Environment | AlibabaChain | None = None

    def keys(self) -> Keys:
        """Keys from wherever they are; the source is chosen at the first question."""
        return self._chosen().keys()

    @property
    def is_at_hand(self) -> bool:
        """Whether `keys` can tell without asking a chain, which may look into the network."""
        source = self._chosen()
        return isinstance(source, Environment) or source.is_at_hand

    def refresh(self) -> bool:
        """Ask the source again; True when it has other keys now."""
        return self._chosen().refresh()

    def _chosen(self) -> Environment | AlibabaChain:
        if self._source is None:
            is_chained = importlib.util.find_spec(_CHAIN) is not None and not has_env(self.family)
            self._source = AlibabaChain() if is_chained else Environment(self.family)
        return self._source

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AlibabaDefault) and other.family == self.family

    def __hash__(self) -> int:
        return hash((AlibabaDefault, self.family))

    def __repr__(self) -> str:
        return f"AlibabaDefault({self.family!r})"

    def __reduce__(self) -> tuple[type[AlibabaDefault], tuple[Family]]:
        return AlibabaDefault, (self.family,)


def from_env(family: Family, environ: Mapping[str, str] | None = None) -> Keys:
    """The keys of the family's variables. Raises `ConfigError` that names those that are missing."""
    known = os.environ if environ is None else environ
    for names in VARIABLES[family]:
        required = [name for part, name in names.items() if part != "security_token"]
        missing = [name for name in required if not known.get(name, "").strip()]
        if not missing:
            given = {part: known.get(name, "").strip() for part, name in names.items()}
            return Keys(
                given["access_key_id"],
                given["access_key_secret"],
                given.get("security_token") or None,
                app_id=given.get("app_id", ""),
            )
        if len(missing) < len(required):
            raise ConfigError(
                f"the environment has {_has(required, missing)} but not {' and '.join(missing)}; set both"
            )
    chain = "" if family == "tencent" else ", or pip install 'imgtag_pipeline[oss]' for Alibaba's credentials chain"
    raise ConfigError(
        f"no credentials: set {_names(family)} in the environment{chain}, or hand in credentials=Keys(...); "
        "keys are never stored"
    )


def renewed(credentials: Credentials) -> bool:
    """Ask a source that can for new keys; True when it has others now. One that has none any more has no others."""
    refresh = getattr(credentials, "refresh", None)
    try:
        return bool(refresh()) if refresh is not None else False
    except ConfigError:
        return False  # the vendor's refusal of the old keys says more


def has_env(family: Family, environ: Mapping[str, str] | None = None) -> bool:
    """Whether any variable of the family is set."""
    known = os.environ if environ is None else environ
    return any(known.get(name, "").strip() for names in VARIABLES[family] for name in names.values())


def _has(required: list[str], missing: list[str]) -> str:
    return " and ".join(name for name in required if name not in missing)


def _names(family: Family) -> str:
    sets = [", ".join(name for part, name in names.items() if part != "security_token") for names in VARIABLES[family]]
    return " (or ".join(sets) + ")" * (len(sets) - 1)


def _chain_client() -> Any:
    return alibaba_chain()
