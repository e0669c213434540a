"""Passwords that Keystone accepted lately, so that it need not hash each of them again (docs/adr/0004).

What holds for a token holds for the password that it was got with. Keystone makes a user's tokens void when the user's
password changes, by an event that it keeps until the last token made before has expired. So a password that was right
when a token was made is right for as long as a token of that age is valid: until it expires, and while there is no
event about the user (https://docs.openstack.org/api-ref/identity/v3-ext/#os-revoke-api).

All times are Keystone's own: the host's clock does not matter. The record holds times and keyed digests, no password.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

MARGIN = timedelta(seconds=60)
"""How far the clocks of several controllers may be apart; events carry whole seconds, too."""


@dataclass(frozen=True)
class Lifetime:
    """When a token was made and when it expires, by Keystone's clock."""

    issued: datetime
    expires: datetime


@dataclass(frozen=True)
class Known:
    """What is known of one user's password: its digest, and the lifetime of the oldest token it may stem from."""

    digest: str
    lifetime: Lifetime


@dataclass
class Memory:
    """What is known of passwords in this run, by user id. `token` is this run's own; without one nothing is learned."""

    key: str = ""
    token: Lifetime | None = None
    known: dict[str, Known] = field(default_factory=dict)

    def knows(self, user: Mapping[str, Any], password: str) -> bool:
        """Whether Keystone is certain to accept a user's (a record of the API) password.

        One that has a date of expiry is never certain: no event tells when it is over.
        """
        found = self.known.get(str(user["id"]))
        if found is None or user.get("password_expires_at"):
            return False
        return hmac.compare_digest(found.digest, digest(self.key, str(user["id"]), password))

    def learn(self, number: str, password: str) -> None:
        """Note that Keystone accepts the password of the user with an id, or has just been given it."""
        if self.token is not None:
            self.known[number] = Known(digest(self.key, number, password), self.token)

    def record(self) -> dict[str, Any]:
        """Return what is known as the content of a JSON file."""
        return {
            "users": {
                number: {
                    "digest": one.digest,
                    "issued": one.lifetime.issued.isoformat(),
                    "expires": one.lifetime.expires.isoformat(),
                }
                for number, one in self.known.items()
            }
        }


def digest(key: str, number: str, password: str) -> str:
    """Return the digest of a user's password. `key` is not stored beside it, so that it is of no use alone."""
    return hmac.new(key.encode(), f"{number}\0{password}".encode(), "sha256").hexdigest()


def moment(text: str) -> datetime:
    """Return a time of the API (`2026-05-04T03:02:01.000000Z`) or of a record; raises ValueError."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def recall(record: Mapping[str, Any], key: str, token: Lifetime) -> Memory:
    """Return what has not expired of an earlier run's record; `forget` has to follow.

    What cannot be read counts as not known, as does an entry that claims to come from later than now.
    """
    users = record.get("users")
    memory = Memory(key, token)
    for number, entry in users.items() if isinstance(users, Mapping) else ():
        try:
            lifetime = Lifetime(moment(entry["issued"]), moment(entry["expires"]))
            known = Known(str(entry["digest"]), lifetime)
        except (KeyError, TypeError, ValueError):
            continue
        if lifetime.issued <= token.issued < lifetime.expires - MARGIN:
            memory.known[number] = known
    return memory


def earliest(memory: Memory) -> str:
    """Return the time from which on Keystone's events matter, as the API takes it; empty when nothing is known.

    It is reckoned back from this run's token and so differs from run to run: Keystone keeps lists of events in a
    cache by this time, and no run is to be given the list of an earlier one.
    """
    if memory.token is None or not memory.known:
        return ""
    longest = max(one.lifetime.expires - one.lifetime.issued for one in memory.known.values())
    return (memory.token.issued - longest - MARGIN).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def forget(memory: Memory, events: Iterable[Mapping[str, Any]]) -> None:
    """Drop what Keystone's revocations say may have changed."""
    for event in events:
        number = event.get("user_id", "")
        if number in memory.known and _concerns(event, memory.known[number].lifetime):
            del memory.known[number]


def _concerns(event: Mapping[str, Any], lifetime: Lifetime) -> bool:
    """Whether an event may have happened after a token was made; one without a time may."""
    try:
        return moment(event["issued_before"]) >= lifetime.issued - MARGIN
    except (KeyError, TypeError, ValueError):
        return True
