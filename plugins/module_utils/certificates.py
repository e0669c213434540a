"""The cloud's own certificate authorities, and the certificates of its hosts.

An authority's key and every host's key are derived from the master key, and an authority's certificate is a pure
function of its key: a second deploy host needs the master key and nothing else.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from ansible_collections.brume.cloud.plugins.module_utils.secrets import derive
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Extension = TypeVar("Extension", bound=x509.ExtensionType)

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Order of the group of P-256 (FIPS 186-4, D.1.2.3); a private key is a number from 1 to it, exclusive."""

AUTHORITY_FROM = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
AUTHORITY_UNTIL = datetime.datetime(2046, 1, 1, tzinfo=datetime.UTC)
LIFETIME = datetime.timedelta(days=397)
"""Validity of a host's certificate: the longest that clients accept (CA/Browser Forum baseline, 6.3.2, to 2026)."""

RENEW_BEFORE = datetime.timedelta(days=30)

AUTHORITIES = {"ca": "Brume CA", "ca/qemu": "Brume QEMU CA"}
"""Authorities, by the name of their secret, and what their certificates are called.

The second one is for migrations between QEMU processes. Such a process runs what tenants bring, so that it holds no
certificate that databases, brokers or libvirtd trust.
"""


@dataclass(frozen=True)
class Authority:
    """The certificate authority: its certificate, and its key, which never leaves the deploy host."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        """Return the certificate as PEM text."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key(master_key: bytes, name: str, generation: int) -> ec.EllipticCurvePrivateKey:
    # 48 bytes reduced modulo the order: the bias is below 2**-128 (FIPS 186-4, B.4.1)
    number = int.from_bytes(derive(master_key, name, generation, 48), "big")
    return ec.derive_private_key(number % (_P256_ORDER - 1) + 1, ec.SECP256R1())


def authority(master_key: bytes, generation: int = 1, name: str = "ca") -> Authority:
    """Return an authority of a generation, see AUTHORITIES; the same certificate, byte for byte, at every call."""
    key = _key(master_key, name, generation)
    subject = _subject(f"{AUTHORITIES[name]} {generation}")
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(derive(master_key, f"{name}/serial", generation, 15), "big") + 1)
        .not_valid_before(AUTHORITY_FROM)
        .not_valid_after(AUTHORITY_UNTIL)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256(), ecdsa_deterministic=True)
    )
    return Authority(certificate, key)


def former_authority(master_key: bytes, generation: int, present: str, name: str = "ca") -> Authority | None:
    """Return the authority before the current generation, or the earlier one that made the `present` certificate."""
    earlier = [authority(master_key, number, name) for number in range(generation - 1, 0, -1)]
    return next((one for one in earlier if is_issued_by(present, one)), earlier[0] if earlier else None)


def bundle(current: Authority, former: Authority | None, present: str, *, renewing: bool, retire: bool) -> str:
    """Return the authorities to trust, as PEM text: the current one, and while certificates change the former one too.

    The former is trusted from the moment in which certificates are about to change (`renewing`) until `retire`; what
    tells later runs is `present`, the text that is there.
    """
    if former is None or retire or not (renewing or former.pem in present):
        return current.pem
    return current.pem + former.pem


def certificates_in(text: Any) -> list[x509.Certificate]:
    """Return the certificates that a PEM text holds, in order.

    Raises ValueError with what is wrong with it; no message shows the text.
    """
    if isinstance(text, str) and "PRIVATE KEY" in text:
        raise ValueError("holds a private key, which nobody else may have")
    if not isinstance(text, str) or "-----BEGIN CERTIFICATE-----" not in text:
        raise ValueError("is no PEM text of certificates")
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        raise ValueError("holds a certificate that cannot be read") from None


def authorities_in(text: Any) -> str:
    """Return the certificates of authorities that a PEM text holds, and nothing else of it.

    Raises ValueError with what is wrong with it; no message shows the text.
    """
    found = certificates_in(text)
    for one in found:
        if not is_authority(one):
            raise ValueError(f"holds the certificate of {one.subject.rfc4514_string()}, which is no authority")
    return pem_of(found)


def is_authority(certificate: x509.Certificate) -> bool:
    """Return whether a certificate may issue others (RFC 5280, section 4.2.1.9)."""
    constraints = extension(certificate, x509.BasicConstraints)
    return constraints is not None and constraints.ca


def extension(certificate: x509.Certificate, kind: type[Extension]) -> Extension | None:
    """Return an extension of a certificate, None where it has none that can be read."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return None


def pem_of(found: Iterable[x509.Certificate]) -> str:
    """Return certificates as PEM text."""
    return "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in found)


def _usage(sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign,
        crl_sign=sign,
        encipher_only=False,
        decipher_only=False,
    )


def names_of(names: Iterable[str]) -> list[x509.GeneralName]:
    """Return addresses and DNS names as a certificate holds them, sorted, each once."""
    result: list[x509.GeneralName] = []
    for name in sorted(set(names)):
        try:
            result.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            result.append(x509.DNSName(name))
    return result


def _subject(name: str, unit: str = "") -> x509.Name:
    """Return a subject; the unit comes first, as `libvirtd.conf` of the role libvirt expects it."""
    units = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit)] if unit else []
    return x509.Name([*units, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def host_key(master_key: bytes, host: str, generation: int = 1) -> str:
    """Return a host's private key as PEM text (PKCS #8, not encrypted); `<host>/qemu` is its key for migrations."""
    return key_text(_key(master_key, f"host/{host}", generation))


def authority_key(master_key: bytes, generation: int = 1, name: str = "ca") -> str:
    """Return an authority's private key as PEM text, for the search that shows that it is nowhere."""
    return key_text(_key(master_key, name, generation))


def key_text(key: PrivateKeyTypes) -> str:
    """Return a private key as PEM text (PKCS #8, not encrypted)."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def issue(ca: Authority, key_pem: str, host: str, names: Iterable[str], now: datetime.datetime, unit: str = "") -> str:
    """Return a new certificate for a host, as PEM text, valid from an hour before the day of `now` for LIFETIME.

    Its subject is the host's name and, before it, the organizational unit where one is given.
    It is a pure function of its arguments and the day, so that a dry run shows the certificate that the run will make.
    """
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    held = names_of(names)
    subject = _subject(host, unit)
    unique = f"{day:%Y-%m-%d} {subject.rfc4514_string()} {held} {key_pem}".encode() + ca.pem.encode()
    key = serialization.load_pem_private_key(key_pem.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101  # host_key made it
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(ca.certificate.subject)
        .public_key(key.public_key())
        # 159 bits at most, and never zero (RFC 5280, section 4.1.2.2)
        .serial_number(int.from_bytes(hashlib.sha256(unique).digest()[:15], "big") + 1)
        .not_valid_before(day - datetime.timedelta(hours=1))
        .not_valid_after(day + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        # Not critical: else libvirt and QEMU refuse it, since they want key encipherment (virNetTLSCertCheckKeyUsage,
        # qcrypto_tls_creds_check_cert_key_usage), which a key of an elliptic curve must not have (RFC 8813, section 3).
        .add_extension(_usage(sign=False), critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(held), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False)
        .sign(ca.key, hashes.SHA256(), ecdsa_deterministic=True)
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def is_issued_by(pem: str, ca: Authority) -> bool:
    """Return whether a certificate, as PEM text, was signed by an authority; what cannot be read was not."""
    try:
        x509.load_pem_x509_certificate(pem.encode()).verify_directly_issued_by(ca.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def clock_fault(now: datetime.datetime) -> str:
    """Return why no certificate can be made at this time, or nothing: the authority is not valid yet or any more."""
    if AUTHORITY_FROM <= now < AUTHORITY_UNTIL - LIFETIME:
        return ""
    first, last = AUTHORITY_FROM, AUTHORITY_UNTIL - LIFETIME
    return f"says {now:%Y-%m-%d}, and the authority makes certificates from {first:%Y-%m-%d} to {last:%Y-%m-%d}"


def fault(
    pem: str, ca: Authority, key_pem: str, host: str, names: Iterable[str], now: datetime.datetime, unit: str = ""
) -> str:
    """Return why a host needs a new certificate, or an empty string when the present one will do.

    Takes what `issue` takes, and the present certificate.
    """
    if not pem.strip():
        return "there is none"
    try:
        present = x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        return "it cannot be read"
    key = serialization.load_pem_private_key(key_pem.encode(), None)
    if present.public_key() != key.public_key():
        return "it belongs to another key"
    if not is_issued_by(pem, ca):
        return "another authority signed it"
    if present.subject != _subject(host, unit):
        return "its subject has changed"
    held = present.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return _time_fault(present, now) or ("" if list(held) == names_of(names) else "the host's names have changed")


def _time_fault(present: x509.Certificate, now: datetime.datetime) -> str:
    first, last = present.not_valid_before_utc, present.not_valid_after_utc
    if first > now:
        return f"it is valid from {first:%Y-%m-%d} on only"
    if last - now >= RENEW_BEFORE:
        return ""
    return f"it {'ends' if last > now else 'has ended'} on {last:%Y-%m-%d}"
