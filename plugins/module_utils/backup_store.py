"""Where backups are kept: a folder, or an object store that speaks S3 or Swift, behind one interface (`Store`).

Its text is handed to Python as that of `backup_host` is, so a folder needs the standard library alone; an object store
is reached from the deploy host, with boto3 or openstacksdk. These find logins where their own command-line clients do
(~/.aws, clouds.yaml), so that no credential passes through Ansible.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol
from urllib.parse import quote

PARTIAL = ".partial"
"""Ending of the name of a backup that is not whole: it is made, or it is being deleted."""

MANIFEST = "manifest.json"
BEGUN = "begun"
CHUNK = 1 << 20
PIECE = 64 << 20
"""Bytes of an object; a file is as many as it takes, because nobody knows its size before its end."""

TIMEOUTS = (10, 120)
"""Seconds that an object store may take to accept a connection, and stay silent."""

TRIES, PAUSE = 4, 1.0
"""How often an object is asked for whose reading breaks off, and seconds before the second try; then twice these."""

SCHEMES = {"s3": "bucket", "swift": "container"}
_OBJECTS = re.compile(rf"({'|'.join(SCHEMES)})://(\w[\w.-]*)((?:/\w[\w.-]*)*)/?", re.ASCII)


class StoreError(OSError):
    """A store cannot be used; the text names the variable and the remedy."""


class Store(Protocol):
    """What is asked of a place for backups. A backup is whole from the moment that `commit` returns, never before."""

    def list(self) -> dict[str, Any]:
        """Return `manifests` of whole backups (name -> text), `partial` ones (with PARTIAL), and `strange` names."""

    def begin(self, name: str) -> None:
        """Leave a mark of a backup that is not whole yet."""

    def write(self, name: str, file: str, chunks: Iterable[bytes]) -> None:
        """Write a file of a backup that is not whole yet."""

    def read(self, name: str, file: str) -> Iterator[bytes]:
        """Yield a file of a whole backup. Raises OSError where it is not there."""

    def commit(self, name: str, manifest: str) -> None:
        """Make a backup whole."""

    def delete(self, names: Iterable[str]) -> None:
        """Delete backups, whole or `partial`; one that is half deleted does not look whole."""


def parse(path: str) -> tuple[str, str, str]:
    """Return scheme, bucket or container, and prefix of a path; a folder is `("", path, "")`. Raises StoreError."""
    if path.startswith("/"):
        return "", path, ""
    found = _OBJECTS.fullmatch(path)
    if found is None:
        kinds = " or ".join(f"{scheme}://{bucket}/prefix" for scheme, bucket in SCHEMES.items())
        raise StoreError(f"backup_path: {path or 'nothing'}: is neither an absolute path nor {kinds}, with letters, "
                         "digits and ._- in names; next: -e backup_path=/srv/backups/<cloud>")  # fmt: skip
    return found[1], found[2], found[3].strip("/")


def opened(path: str, login: str) -> Store:
    """Return the store of a path; `login` names a profile of ~/.aws or an entry of clouds.yaml. Raises StoreError."""
    scheme, bucket, prefix = parse(path)
    if not scheme:
        return Folder(path)
    return Objects(S3(bucket, login) if scheme == "s3" else Swift(bucket, login), f"{prefix}/" if prefix else "")


class Folder:
    """Backups as folders of a folder."""

    def __init__(self, path: str) -> None:
        """Take the folder, which need not be there yet."""
        self._path = path

    def list(self) -> dict[str, Any]:
        """Return what is there."""
        found: dict[str, Any] = {"manifests": {}, "partial": [], "strange": []}
        for name in sorted(os.listdir(self._path)) if os.path.isdir(self._path) else ():
            if name == "lost+found" or name.startswith("."):
                continue
            if name.endswith(PARTIAL):
                found["partial"].append(name)
            elif os.path.exists(f"{self._path}/{name}/{MANIFEST}"):
                with open(f"{self._path}/{name}/{MANIFEST}", encoding="utf-8") as stream:
                    found["manifests"][name] = stream.read()
            else:
                found["strange"].append(name)
        return found

    def begin(self, name: str) -> None:
        """Make the folder."""
        os.makedirs(f"{self._path}/{name}{PARTIAL}", mode=0o700)

    def write(self, name: str, file: str, chunks: Iterable[bytes]) -> None:
        """Write a file, and have it on the disk."""
        with open(f"{self._path}/{name}{PARTIAL}/{file}", "wb") as stream:
            stream.writelines(chunks)
            stream.flush()
            os.fsync(stream.fileno())

    def read(self, name: str, file: str) -> Iterator[bytes]:
        """Yield a file."""
        with open(f"{self._path}/{name}/{file}", "rb") as stream:
            while chunk := stream.read(CHUNK):
                yield chunk

    def commit(self, name: str, manifest: str) -> None:
        """Write the manifest, then give the folder its name, each on the disk before the next."""
        partial = f"{self._path}/{name}{PARTIAL}"
        with open(f"{partial}/{MANIFEST}", "w", encoding="utf-8") as stream:
            stream.write(manifest)
            stream.flush()
            os.fsync(stream.fileno())
        _sync(partial)
        os.rename(partial, f"{self._path}/{name}")
        _sync(self._path)

    def delete(self, names: Iterable[str]) -> None:
        """Take the name first."""
        for name in names:
            gone = f"{self._path}/{name.removesuffix(PARTIAL)}{PARTIAL}"
            if not name.endswith(PARTIAL):
                os.rename(f"{self._path}/{name}", gone)
                _sync(self._path)
            shutil.rmtree(gone)


def _sync(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Bucket(Protocol):
    """What an object store does. Each raises StoreError."""

    def entries(self, prefix: str, delimiter: str = "") -> Iterator[str]:
        """Yield keys below a prefix; with a delimiter, of those that go on after it only the part up to it, once."""

    def put(self, key: str, data: bytes) -> None:
        """Write an object, whole or not at all; the store compares its MD5."""

    def get(self, key: str) -> bytes | None:
        """Return an object, None where it is not there."""

    def remove(self, key: str) -> None:
        """Delete an object, which may be gone already."""


class Objects:
    """Backups as objects `<name>/<file>/<number>`; the manifest comes last and goes first.

    Objects of a fixed size instead of one of each file: multipart uploads and large objects have limits, and a killed
    run would leave parts that no listing shows. Listings may be late (Swift), so none says what is whole.
    """

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        """Take a bucket; `prefix` is empty or ends with a slash."""
        self._bucket, self._prefix = bucket, prefix

    def list(self) -> dict[str, Any]:
        """Return what is there. Raises StoreError for a manifest that is listed and cannot be read."""
        found: dict[str, Any] = {"manifests": {}, "partial": [], "strange": []}
        for entry in self._bucket.entries(self._prefix, "/"):
            name = entry.removeprefix(self._prefix)
            if not name.endswith("/"):
                if name:  # a console's "folder" is an object with the prefix as key
                    found["strange"].append(name)
                continue
            manifest = self._bucket.get(f"{entry}{MANIFEST}")
            if manifest is not None:
                found["manifests"][name[:-1]] = manifest.decode("utf-8", "replace")
            elif f"{entry}{MANIFEST}" in self._bucket.entries(f"{entry}{MANIFEST}"):
                # What is partial is deleted by the next run.
                raise StoreError(f"backup_path: {entry}{MANIFEST}: the store lists it, and says that it is not there\n"
                                 "  next: run again when the store agrees with itself; after a deletion that takes it "
                                 "a while")  # fmt: skip
            else:
                found["partial"].append(f"{name[:-1]}{PARTIAL}")
        return found

    def begin(self, name: str) -> None:
        """Write an empty object, which tells before any data flows whether that is allowed."""
        self._bucket.put(f"{self._prefix}{name}/{BEGUN}", b"")

    def write(self, name: str, file: str, chunks: Iterable[bytes]) -> None:
        """Write a file in pieces; an empty one is an empty piece."""
        number, held = 0, bytearray()
        for chunk in chunks:
            held += chunk
            if len(held) >= PIECE:
                self._bucket.put(self._piece(name, file, number), bytes(held))
                number, held = number + 1, bytearray()
        if held or not number:
            self._bucket.put(self._piece(name, file, number), bytes(held))

    def read(self, name: str, file: str) -> Iterator[bytes]:
        """Yield pieces until there is none; that none lacks is told by the SHA-256 of all."""
        number = 0
        while (piece := self._bucket.get(self._piece(name, file, number))) is not None:
            yield piece
            number += 1
        if not number:
            raise StoreError(f"{name}/{file}: is not there")

    def commit(self, name: str, manifest: str) -> None:
        """Write the manifest."""
        self._bucket.put(f"{self._prefix}{name}/{MANIFEST}", manifest.encode())

    def delete(self, names: Iterable[str]) -> None:
        """Delete the manifest first."""
        for name in names:
            place = f"{self._prefix}{name.removesuffix(PARTIAL)}/"
            self._bucket.remove(f"{place}{MANIFEST}")
            for key in list(self._bucket.entries(place)):
                self._bucket.remove(key)

    def _piece(self, name: str, file: str, number: int) -> str:
        return f"{self._prefix}{name}/{file}/{number:06d}"


Said = Mapping[str, tuple[str, str]]
"""Class of an error, or a store's code for it -> what it means and what to do, both with words in braces."""

_SILENT = ("backup_login: {place}: {endpoint} does not answer ({said})", "correct it in {file}, or start the server")
_REFUSED = ("backup_login: {place}: it refuses the login of {login} ({said})", "correct it in {file}")
_DENIED = ("backup_login: {place}: {login} may not do this there ({said})", "let it read, write, list and delete there")
_TRUST = ("backup_login: {place}: its certificate is not trusted ({said})", "name the authority's file: {ca} in {file}")
_UNUSABLE = ("backup_login: {login}: {said}", "correct it in {file}")
_NO_LOGIN = ("backup_login: {login}: {said}", "add it to {file}, or name another one")
_NO_BUCKET = ("backup_path: {place}: is not there", "make it, or correct the name")
_OTHER = ("backup_path: {place}: {said}", "see to it, and run again")


@contextmanager
def _explained(errors: tuple[type[Exception], ...], table: Said, words: Mapping[str, str]) -> Iterator[None]:
    """Raise StoreError for errors of a library, with what they mean and what to do."""
    try:
        yield
    except errors as error:
        code = (getattr(error, "response", None) or {}).get("Error", {}).get("Code") if table is S3_SAID else None
        names = [str(code), *(one.__name__ for one in type(error).__mro__)]
        problem, remedy = next((table[name] for name in names if name in table), _OTHER)
        said = " ".join(str(error).split())
        raise StoreError(f"{problem}\n  next: {remedy}".format(**words, said=said)) from None


def _lacking(library: str) -> StoreError:
    return StoreError(f"backup_path: needs {library}, which {sys.executable} lacks\n"
                      "  next: `make venv`, or install it where ansible-playbook is")  # fmt: skip


S3_SAID: Said = {
    "NoSuchBucket": _NO_BUCKET, "InvalidBucketName": _NO_BUCKET, "ParamValidationError": _NO_BUCKET,
    "InvalidAccessKeyId": _REFUSED, "SignatureDoesNotMatch": _REFUSED, "ExpiredToken": _REFUSED,
    "InvalidToken": _REFUSED, "AccessDenied": _DENIED, "SSLError": _TRUST, "EndpointConnectionError": _SILENT,
    "HTTPClientError": _SILENT, "ProfileNotFound": _NO_LOGIN, "NoCredentialsError": _NO_LOGIN,
    "PartialCredentialsError": _NO_LOGIN, "CredentialRetrievalError": _NO_LOGIN,
    "ConfigParseError": _UNUSABLE, "ValueError": _UNUSABLE, "OSError": _UNUSABLE,
    "PermanentRedirect": ("backup_login: {place}: is in another region ({said})", "correct region in {file}"),
    "AuthorizationHeaderMalformed": ("backup_login: {place}: {said}", "correct region in {file}"),
}  # fmt: skip


class S3:
    """A bucket, through boto3 (docs.aws.amazon.com, Amazon S3 API Reference).

    Nothing but GET, PUT, DELETE and ListObjectsV2 with Content-MD5: other makers' S3 may lack the rest.
    """

    def __init__(self, bucket: str, login: str) -> None:
        """Take a bucket; an empty `login` is what AWS_PROFILE and the default profile say. Raises StoreError."""
        try:
            import boto3  # noqa: PLC0415  # the deploy host's alone
            import botocore.config  # noqa: PLC0415
            import botocore.exceptions  # noqa: PLC0415
        except ImportError:
            raise _lacking("boto3") from None
        self._bucket = bucket
        errors = (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, ValueError, OSError)
        words = {
            "place": f"s3://{bucket}", "login": f"profile {login or 'default'}", "endpoint": "its endpoint_url",
            "file": "~/.aws/config or ~/.aws/credentials", "ca": "ca_bundle",
        }  # fmt: skip
        self._explained = partial(_explained, errors, S3_SAID, words)
        self._broken = (
            botocore.exceptions.IncompleteReadError, botocore.exceptions.ReadTimeoutError,
            botocore.exceptions.ResponseStreamingError,
        )  # fmt: skip
        config = botocore.config.Config(
            connect_timeout=TIMEOUTS[0], read_timeout=TIMEOUTS[1],
            retries={"mode": "standard", "total_max_attempts": 4},
            request_checksum_calculation="when_required", response_checksum_validation="when_required",
        )  # fmt: skip
        with self._explained():
            self._api: Any = boto3.Session(profile_name=login or None).client("s3", config=config)

    def entries(self, prefix: str, delimiter: str = "") -> Iterator[str]:
        """Yield keys."""
        with self._explained():
            pages = self._api.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=prefix, Delimiter=delimiter):
                yield from (one["Key"] for one in page.get("Contents", ()))
                yield from (one["Prefix"] for one in page.get("CommonPrefixes", ()))

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        with self._explained():
            self._api.put_object(Bucket=self._bucket, Key=key, Body=data, ContentMD5=digest)

    def get(self, key: str) -> bytes | None:
        """Return an object. botocore repeats a request by itself, and not what breaks off after its headers."""
        with self._explained():
            for number in range(TRIES):
                try:
                    answer = self._api.get_object(Bucket=self._bucket, Key=key)
                except self._api.exceptions.NoSuchKey:
                    return None
                try:
                    return bytes(answer["Body"].read())
                except self._broken:
                    if number == TRIES - 1:
                        raise
                    time.sleep(PAUSE * 2**number)
        raise AssertionError("the last try returns or raises")

    def remove(self, key: str) -> None:
        """Delete an object."""
        with self._explained():
            self._api.delete_object(Bucket=self._bucket, Key=key)


SWIFT_SAID: Said = {
    "NotFound": _NO_BUCKET, "Unauthorized": _REFUSED, "Forbidden": _DENIED, "SSLError": _TRUST,
    "ConnectFailure": _SILENT, "ConnectTimeout": _SILENT, "UnknownConnectionError": _SILENT,
    "DiscoveryFailure": _SILENT, "ConfigException": _NO_LOGIN,
    "EndpointNotFound": ("backup_login: {login}: that cloud has no object store ({said})", "name another cloud"),
    "CatalogException": ("backup_login: {login}: {said}", "give it a project and region in {file}"),
    "MissingRequiredOptions": _UNUSABLE, "OSError": _UNUSABLE,
}  # fmt: skip


class Swift:
    """A container, through keystoneauth as openstacksdk sets it up (docs.openstack.org/api-ref/object-store)."""

    def __init__(self, container: str, login: str) -> None:
        """Take a container; `login` is an entry of clouds.yaml. Raises StoreError."""
        try:
            import keystoneauth1.adapter  # noqa: PLC0415  # the deploy host's alone
            import keystoneauth1.exceptions  # noqa: PLC0415
            import openstack.config  # noqa: PLC0415
            import openstack.exceptions  # noqa: PLC0415
        except ImportError:
            raise _lacking("openstacksdk") from None
        errors = (keystoneauth1.exceptions.ClientException, openstack.exceptions.ConfigException, OSError)
        self._missing = keystoneauth1.exceptions.NotFound
        self._container = quote(container)
        words = {"place": f"swift://{container}", "login": f"entry {login}", "file": "clouds.yaml",
                 "endpoint": "its auth_url or its object store", "ca": "cacert"}  # fmt: skip
        self._explained = partial(_explained, errors, SWIFT_SAID, words)
        with self._explained():
            cloud = openstack.config.OpenStackConfig().get_one(cloud=login)
            session: Any = cloud.get_session()
            session.timeout = TIMEOUTS
            self._api: Any = keystoneauth1.adapter.Adapter(
                session, service_type="object-store", interface=cloud.get_interface("object-store"),
                region_name=cloud.get_region_name("object-store"), connect_retries=3, status_code_retries=3,
                endpoint_override=cloud.get_endpoint("object-store"),
            )  # fmt: skip

    def entries(self, prefix: str, delimiter: str = "") -> Iterator[str]:
        """Yield keys."""
        asked = {"format": "json", "prefix": prefix, "delimiter": delimiter, "marker": ""}
        with self._explained():
            while page := self._api.get(f"/{self._container}", params=asked).json():
                names = [str(one.get("name") or one["subdir"]) for one in page]
                yield from names
                asked["marker"] = names[-1]

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        with self._explained():
            self._api.put(self._path(key), data=data, headers={"ETag": digest})

    def get(self, key: str) -> bytes | None:
        """Return an object; of a manifest all replicas are asked (X-Newest), because one that lacks it decides much."""
        headers = {"X-Newest": "true"} if key.endswith(f"/{MANIFEST}") else {}
        with self._explained():
            try:
                return bytes(self._api.get(self._path(key), headers=headers).content)
            except self._missing:
                return None

    def remove(self, key: str) -> None:
        """Delete an object."""
        with self._explained():
            try:
                self._api.delete(self._path(key))
            except self._missing:
                return

    def _path(self, key: str) -> str:
        return f"/{self._container}/{quote(key)}"


# what hosts are asked to do


def store_list(path: str, login: str = "") -> dict[str, Any]:
    """Return what `Store.list` says."""
    return opened(path, login).list()


def store_begin(path: str, name: str, login: str = "") -> None:
    """Begin a backup."""
    opened(path, login).begin(name)


def store_put(path: str, name: str, file: str, login: str = "") -> dict[str, Any]:
    """Write standard input to a file of a backup that is not whole yet, and return its size and SHA-256."""
    digest, size = hashlib.sha256(), 0

    def chunks() -> Iterator[bytes]:
        nonlocal size
        while chunk := os.read(0, CHUNK):
            digest.update(chunk)
            size += len(chunk)
            yield chunk

    opened(path, login).write(name, file, chunks())
    return {"size": size, "sha256": digest.hexdigest()}


def store_get(path: str, name: str, file: str, login: str = "") -> None:
    """Write a file of a backup to standard output."""
    sys.stdout.buffer.writelines(opened(path, login).read(name, file))


def store_sum(path: str, name: str, file: str, login: str = "") -> str:
    """Return the SHA-256 of a file of a backup."""
    digest = hashlib.sha256()
    for chunk in opened(path, login).read(name, file):
        digest.update(chunk)
    return digest.hexdigest()


def store_commit(path: str, name: str, manifest: str, login: str = "") -> None:
    """Make a backup whole."""
    opened(path, login).commit(name, manifest)


def store_delete(path: str, names: list[str], login: str = "") -> None:
    """Delete backups."""
    opened(path, login).delete(names)


DOES = {
    one.__name__: one for one in (store_list, store_begin, store_put, store_get, store_sum, store_commit, store_delete)
}
