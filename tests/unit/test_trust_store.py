"""The operating system's trust store: what is in it, and what its program says when it fails."""

from __future__ import annotations

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import trust_store


def pem(body: str, width: int = 4) -> str:
    lines = "\n".join(body[start : start + width] for start in range(0, len(body), width))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"


def test_certificates_are_compared_however_they_are_written() -> None:
    other = pem("CCCC").replace("\n", " \r\n")
    assert trust_store.certificates(f"# one\n{pem('AAAABBBB')}\n{other}") == ["AAAABBBB", "CCCC"]
    assert trust_store.certificates("") == []


@pytest.mark.parametrize(
    ("wanted", "bundle", "missing"),
    [
        (pem("AAAABBBB"), pem("CCCC") + pem("AAAABBBB", 8), False),
        (pem("AAAABBBB"), pem("CCCC"), True),
        (pem("AAAA") + pem("BBBB"), pem("AAAA"), True),
        (pem("AAAA"), "", True),
        ("", "", False),
    ],
)
def test_a_certificate_that_is_not_in_the_bundle_is_missing(wanted: str, bundle: str, missing: bool) -> None:
    assert trust_store.missing(wanted, bundle) is missing


@pytest.mark.parametrize(
    ("script", "said"), [("echo no room >&2; exit 1", "sh: no room"), ("echo no luck; exit 2", "sh: no luck")]
)
def test_a_failed_update_says_why(script: str, said: str) -> None:
    trust_store.update(("sh", "-c", "exit 0"))
    with pytest.raises(OSError) as caught:
        trust_store.update(("sh", "-c", script))
    assert str(caught.value) == said
