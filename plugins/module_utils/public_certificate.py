"""The operator's own certificate for the public endpoints: read, checked, and as the files that HAProxy takes.

Pure. The certificate and its authorities are variables of the role loadbalancer, its key is a secret that is always
given. Internal endpoints, the database and the broker keep the certificates of the cloud's own authority.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import certificates
from ansible_collections.brume.cloud.plugins.module_utils.description import Problem
from ansible_collections.brume.cloud.plugins.module_utils.external import External
from ansible_collections.brume.cloud.plugins.module_utils.secrets import SecretError
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

CERTIFICATE, AUTHORITIES = "loadbalancer_public_certificate", "loadbalancer_public_ca"
VARIABLES = (CERTIFICATE, AUTHORITIES)
KEY_SECRET = "loadbalancer/public_certificate_key"  # noqa: S105  # a name
KEY_PLACE = f"brume_secrets.{KEY_SECRET}"

PEM_FILE = "/etc/brume/tls/public.pem"
"""The certificate, its chain and its key."""

LIST_FILE = "/etc/brume/tls/public.list"
"""Which certificate is for which name, where public and internal endpoints share an address."""

RSA_BITS, EC_BITS = 2048, 224
"""Smallest keys of 112 bits of security, which OpenSSL's level 2, Debian's default, wants (openssl-ciphers(1))."""

WEAK_HASHES = (hashes.MD5, hashes.SHA1)
"""Hashes of signatures that OpenSSL's level 2 refuses."""

Mistake = tuple[str, str, str]
"""The variable, what is wrong, the remedy."""

_NEW = "get another certificate"
_CHAIN = "give the server's certificate, then that of its issuer, and so on"
_PEM = f"give PEM text of certificates alone (a key belongs into brume_secrets as {KEY_SECRET})"


@dataclass(frozen=True)
class PublicCertificate:
    """What the operator gave, as PEM text: the certificate with its chain, and the authorities that clients need.

    Without authorities, clients are taken to trust the certificate by themselves.
    """

    chain: str
    ca: str = ""
    name: str = ""
    """The name by which users ask for it, where the address is that of the internal endpoints too."""

    @property
    def certificates(self) -> list[x509.Certificate]:
        """Return the server's certificate and those of its issuers; nothing where they could not be read."""
        return x509.load_pem_x509_certificates(self.chain.encode()) if self.chain else []

    @property
    def authorities(self) -> list[x509.Certificate]:
        """Return the authorities."""
        return x509.load_pem_x509_certificates(self.ca.encode()) if self.ca else []


def read(variables: Mapping[str, Any]) -> tuple[PublicCertificate | None, list[Mistake]]:
    """Return the certificate that the variables give, None for none, and its mistakes that can be seen in it alone.

    What cannot be read is empty in the result.
    """
    mistakes: list[Mistake] = []
    found: dict[str, list[x509.Certificate]] = {}
    for variable in VARIABLES:
        text = variables.get(variable) or ""
        try:
            found[variable] = certificates.certificates_in(text) if text else []
        except ValueError as error:
            mistakes.append((variable, str(error), _PEM))
            found[variable] = []
    chain, authorities = found[CERTIFICATE], found[AUTHORITIES]
    mistakes += _chain_mistakes(chain)
    for variable, listed in found.items():
        mistakes += [(variable, wrong, _NEW) for one in listed if (wrong := _weakness(one))]
    for one in authorities:
        if not certificates.is_authority(one):
            message = f"holds the certificate of {_name(one)}, which is no authority"
            mistakes.append((AUTHORITIES, message, "give the certificates of authorities alone"))
    if not variables.get(CERTIFICATE):
        if variables.get(AUTHORITIES):
            mistakes.append((AUTHORITIES, f"is given without {CERTIFICATE}", "give both, or neither"))
        return None, mistakes
    if len(chain) == 1 and not authorities and _issued(chain[0], chain[0]):
        mistakes.append((CERTIFICATE, f"{_name(chain[0])} is signed by itself, and nobody trusts it", _NEW))
    if chain and authorities and all(unknown := [_without_anchor(one, authorities) for one in chain]):
        remedy = "add the certificates of the issuers up to the root"
        mistakes.append((AUTHORITIES, f"does not hold the issuer of {unknown[-1]}", remedy))
    return PublicCertificate(certificates.pem_of(chain), certificates.pem_of(authorities)), mistakes


def placed(
    given: PublicCertificate, host: str, shared: bool, external: External
) -> tuple[PublicCertificate, list[Mistake]]:
    """Return the certificate as it is used in a cloud, and what of the cloud does not go with it.

    `host` is the name or address of the public endpoints, empty where a mistake keeps it unknown. With `shared`, the
    internal endpoints have their address too.
    """
    if external.loadbalancer is not None:
        message = "is given, and the load balancer is external"
        return given, [(CERTIFICATE, message, "give the certificate to whoever runs it, and take the variable out")]
    mistakes: list[Mistake] = []
    if external.identity is not None and not given.ca:
        # Clients have one file of authorities, and Keystone's are in it.
        remedy = "give the authorities of the certificate, public ones too"
        mistakes.append((AUTHORITIES, "is missing, and brume_external.identity has authorities of its own", remedy))
    if not host:
        return given, mistakes
    if shared and _address(host) is not None:
        message = f"is for the address {host}, at which the internal endpoints are too"
        remedy = "give the network `api` a cidr of its own, or `management` a fqdn by which users ask for it"
        mistakes.append((CERTIFICATE, message, remedy))
    elif given.chain and not _covers(server := given.certificates[0], host):
        names = ", ".join(_names(server)) or "no name at all in subjectAltName"
        remedy = f"get one that has {host} in subjectAltName, or correct fqdn and vip of brume_networks"
        mistakes.append((CERTIFICATE, f"does not cover {host}, where the public endpoints are; it has {names}", remedy))
    return replace(given, name=host) if shared else given, mistakes


def time_problems(given: PublicCertificate, now: datetime.datetime) -> tuple[list[Problem], list[str]]:
    """Return what has ended or has not begun, and warnings of what ends within 30 days."""
    problems, warnings = [], []
    for variable, listed in ((CERTIFICATE, given.certificates), (AUTHORITIES, given.authorities)):
        for one in listed:
            first, last = one.not_valid_before_utc, one.not_valid_after_utc
            if now < first:
                message = f"{_name(one)} is valid from {first:%Y-%m-%d %H:%M} UTC on only"
                problems.append(Problem(variable, message, "wait until then, or correct this machine's clock"))
            elif now >= last:
                problems.append(Problem(variable, f"{_name(one)} has ended on {last:%Y-%m-%d}", _NEW))
            elif last - now < certificates.RENEW_BEFORE:
                warnings.append(f"{variable}: {_name(one)} ends on {last:%Y-%m-%d}; {_NEW}, then run site.yml")
    return problems, warnings


def key_problems(given: PublicCertificate | None, secrets: Any) -> list[Problem]:
    """Return what is wrong with the key in brume_secrets; no message holds any of it."""
    text = secrets.get(KEY_SECRET) if isinstance(secrets, Mapping) else None
    if given is None and text is None:
        return []
    if given is None:
        return [Problem(KEY_PLACE, f"is given without {CERTIFICATE}", "give both, or neither")]
    if text is None:
        remedy = "give the certificate's key as PEM text, in a vault file"
        return [Problem(KEY_PLACE, f"is missing, and {CERTIFICATE} is given", remedy)]
    try:
        key = _key(text)
    except ValueError as error:
        return [Problem(KEY_PLACE, str(error), "give the certificate's key as PEM text (`openssl pkey -in FILE`)")]
    chain = given.certificates
    if chain and key.public_key() != _public_key(chain[0]):
        message = f"does not belong to the certificate of {_name(chain[0])}"
        return [Problem(KEY_PLACE, message, f"give the key with which {CERTIFICATE} was requested")]
    return []


def key_text(secrets: Mapping[str, str]) -> str:
    """Return the key as it is written on hosts (PKCS #8); raises SecretError without one that can be read."""
    try:
        return certificates.key_text(_key(secrets.get(KEY_SECRET)))
    except ValueError as error:
        raise SecretError(KEY_PLACE, str(error), "see playbooks/plan.yml") from None


def _key(text: Any) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    if not isinstance(text, str):
        raise ValueError("is no text")
    try:
        key = serialization.load_pem_private_key(text.encode(), None)
    except TypeError:
        raise ValueError("is encrypted with a passphrase of its own") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("is no PEM text of a private key") from None
    if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)):
        raise ValueError("is neither RSA nor ECDSA")
    return key


def _chain_mistakes(chain: Sequence[x509.Certificate]) -> list[Mistake]:
    mistakes: list[Mistake] = []
    for number, (one, issuer) in enumerate(pairwise(chain), start=1):
        if not _issued(one, issuer):
            message = f"certificate {number + 1} ({_name(issuer)}) did not sign certificate {number} ({_name(one)})"
            mistakes.append((CERTIFICATE, message, _CHAIN))
        elif not certificates.is_authority(issuer):
            mistakes.append((CERTIFICATE, f"certificate {number + 1} ({_name(issuer)}) is no authority", _CHAIN))
    usage = certificates.extension(chain[0], x509.ExtendedKeyUsage) if chain else None
    if usage and not {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(usage):
        message = f"{_name(chain[0])} is not for servers (extendedKeyUsage without serverAuth)"
        mistakes.append((CERTIFICATE, message, _NEW))
    return mistakes


def _issued(one: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        one.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _without_anchor(one: x509.Certificate, authorities: Sequence[x509.Certificate]) -> str:
    """Return the name of the first on the way to a root that has no issuer among the authorities; nothing for none."""
    for _step in authorities:
        if one in authorities and _issued(one, one):
            return ""
        issuer = next((other for other in authorities if other != one and _issued(one, other)), None)
        if issuer is None:
            return _name(one)
        one = issuer
    return "" if _issued(one, one) else _name(one)


def _weakness(one: x509.Certificate) -> str:
    """Return why clients refuse a certificate for its key or its signature, or nothing."""
    key = _public_key(one)
    if isinstance(key, rsa.RSAPublicKey):
        weak = f"RSA of {key.key_size} bits" if key.key_size < RSA_BITS else ""
    elif isinstance(key, ec.EllipticCurvePublicKey):
        weak = f"ECDSA of {key.key_size} bits" if key.key_size < EC_BITS else ""
    else:
        return f"the key of {_name(one)} is neither RSA nor ECDSA"
    if weak:
        return f"the key of {_name(one)} is weak: {weak}, and at least {RSA_BITS} (RSA) or {EC_BITS} (ECDSA) are needed"
    # Nobody verifies the signature of a root.
    if isinstance(one.signature_hash_algorithm, WEAK_HASHES) and one.issuer != one.subject:
        return f"the signature of {_name(one)} is weak: {one.signature_hash_algorithm.name.upper()}"
    return ""


def _name(one: x509.Certificate) -> str:
    """Return a certificate's subject, or its first name where it has none, as Let's Encrypt's have none."""
    return one.subject.rfc4514_string() or next(iter(_names(one)), f"serial number {one.serial_number:x}")


def _names(one: x509.Certificate) -> list[str]:
    """Return the names and addresses that a certificate is for; clients ignore commonName (RFC 9525, section 2)."""
    held = certificates.extension(one, x509.SubjectAlternativeName)
    if held is None:
        return []
    return [*held.get_values_for_type(x509.DNSName), *map(str, held.get_values_for_type(x509.IPAddress))]


def _covers(one: x509.Certificate, host: str) -> bool:
    """Return whether a certificate is for a name or address; `*` stands for one whole label (RFC 9525, section 6.3)."""
    held = certificates.extension(one, x509.SubjectAlternativeName)
    if held is None:
        return False
    address = _address(host)
    if address is not None:
        return address in held.get_values_for_type(x509.IPAddress)
    wanted = host.lower()
    names = {name.lower() for name in held.get_values_for_type(x509.DNSName)}
    return not names.isdisjoint((wanted, f"*.{wanted.partition('.')[2]}"))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _public_key(one: x509.Certificate) -> Any:
    """Return a certificate's public key, None for one of an unknown kind."""
    try:
        return one.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
