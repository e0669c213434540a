"""The authority is a function of the master key; a host's certificate is renewed when it must be."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import certificates
from cryptography import x509

KEY = bytes(range(32))
NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
NAMES = ["aio", "192.0.2.11", "2001:db8::5"]


def test_the_authority_is_the_same_byte_for_byte() -> None:
    assert certificates.authority(KEY).pem == certificates.authority(KEY).pem
    assert certificates.authority(KEY).pem != certificates.authority(KEY, 2).pem
    assert certificates.authority(KEY).pem != certificates.authority(bytes(32)).pem


def test_openssl_accepts_authority_certificate_and_key(tmp_path: Path) -> None:
    ca = certificates.authority(KEY)
    key = certificates.host_key(KEY, "aio")
    (tmp_path / "pair.pem").write_text(certificates.issue(ca, key, "aio", NAMES, NOW) + key)
    context = ssl.create_default_context(cadata=ca.pem)
    context.load_cert_chain(tmp_path / "pair.pem")
    assert context.cert_store_stats()["x509_ca"] == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("none", ""),
        ("missing", "there is none"),
        ("garbage", "it cannot be read"),
        ("other key", "it belongs to another key"),
        ("other authority", "another authority signed it"),
        ("ending", "it ends on 2027-12-26"),
        ("expired", "it has ended on 2027-12-26"),
        ("of tomorrow", "it is valid from 2026-11-23 on only"),
        ("names", "the host's names have changed"),
        ("unit", "its subject has changed"),
        ("host", "its subject has changed"),
    ],
)
def test_why_a_certificate_is_replaced(change: str, expected: str) -> None:
    ca = certificates.authority(KEY)
    key = certificates.host_key(KEY, "aio")
    pem = certificates.issue(ca, key, "aio", NAMES, NOW)
    now, names, host, unit = NOW, NAMES, "aio", ""
    if change == "missing":
        pem = ""
    elif change == "garbage":
        pem = "-----BEGIN"
    elif change == "other key":
        key = certificates.host_key(KEY, "aio", 2)
    elif change == "other authority":
        ca = certificates.authority(KEY, 2)
    elif change == "ending":
        now = NOW + certificates.LIFETIME - datetime.timedelta(days=29)
    elif change == "expired":
        now = NOW + certificates.LIFETIME + datetime.timedelta(days=1)
    elif change == "of tomorrow":
        now = NOW - datetime.timedelta(days=1)
    elif change == "names":
        names = [*NAMES, "192.0.2.12"]
    elif change == "unit":
        unit = "compute"
    elif change == "host":
        host = "another"
    assert certificates.fault(pem, ca, key, host, names, now, unit) == expected


@pytest.mark.parametrize(
    ("year", "expected"),
    [(1970, "says 1970-06-01"), (2025, "says 2025-06-01"), (2026, ""), (2044, ""), (2045, "says 2045-06-01")],
)
def test_a_clock_that_is_far_off_makes_no_certificate(year: int, expected: str) -> None:
    fault = certificates.clock_fault(datetime.datetime(year, 6, 1, tzinfo=datetime.UTC))
    assert fault.partition(",")[0] == expected


def test_a_certificate_is_the_same_all_day() -> None:
    ca, key = certificates.authority(KEY), certificates.host_key(KEY, "aio")

    def issue(**later: float) -> str:
        return certificates.issue(ca, key, "aio", NAMES, NOW + datetime.timedelta(**later))

    pem = issue()
    assert issue(hours=23, minutes=59, seconds=59, microseconds=7) == pem
    assert issue(days=1) != pem
    assert certificates.issue(ca, key, "aio", ["aio"], NOW) != pem
    found = [x509.load_pem_x509_certificate(one.encode()) for one in (pem, issue(days=1))]
    assert found[0].serial_number != found[1].serial_number
    assert found[0].not_valid_before_utc == NOW - datetime.timedelta(hours=1)
    assert found[0].not_valid_after_utc == NOW + certificates.LIFETIME


def test_who_issued_a_certificate() -> None:
    ca, other = certificates.authority(KEY), certificates.authority(KEY, 2)
    pem = certificates.issue(ca, certificates.host_key(KEY, "aio"), "aio", NAMES, NOW)
    assert certificates.is_issued_by(pem, ca)
    assert not certificates.is_issued_by(pem, other)
    # Same name, another key.
    assert not certificates.is_issued_by(pem, certificates.authority(bytes(32)))
    assert not certificates.is_issued_by("", ca)


@pytest.mark.parametrize(
    ("generation", "issuer", "expected"), [(1, 1, None), (2, 1, 1), (3, 1, 1), (3, 2, 2), (3, 3, 2), (3, 0, 2)]
)
def test_the_former_authority_is_the_one_that_made_the_certificate(
    generation: int, issuer: int, expected: int | None
) -> None:
    key = certificates.host_key(KEY, "aio")
    pem = certificates.issue(certificates.authority(KEY, issuer), key, "aio", NAMES, NOW) if issuer else ""
    found = certificates.former_authority(KEY, generation, pem)
    assert (found and found.pem) == (certificates.authority(KEY, expected).pem if expected else None)


@pytest.mark.parametrize(
    ("former", "present", "renewing", "retire", "both"),
    [
        (False, "", False, False, False),
        (True, "", False, False, False),
        (True, "", True, False, True),
        (True, "current", False, False, False),
        (True, "both", False, False, True),
        (True, "former", False, False, True),
        (True, "both", True, True, False),
    ],
)
def test_the_former_authority_is_trusted_while_certificates_change(
    former: bool, present: str, renewing: bool, retire: bool, both: bool
) -> None:
    new, old = certificates.authority(KEY, 2), certificates.authority(KEY)
    texts = {"current": new.pem, "former": old.pem, "both": new.pem + old.pem}
    found = certificates.bundle(new, old if former else None, texts.get(present, ""), renewing=renewing, retire=retire)
    assert found == texts["both" if both else "current"]
