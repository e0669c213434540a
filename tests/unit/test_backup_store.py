"""Stores of backups: one contract for a folder, a bucket of a real S3 server, and a container of a small Swift."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from ansible_collections.brume.cloud.plugins.module_utils import backup_store, backup_stream, certificates

from . import fake_swift
from .playbooks import one_host, playbook

FULL, NEXT = "20260301T000000Z-full", "20260302T000000Z-incremental"
MASTER_KEY = bytes(range(32))
HERE = backup_stream.here()
SECRET = "a-secret-of-s3"


@dataclass
class Server:
    """A server of objects; logins are in files that its client reads."""

    url: str
    files: Path
    keys: dict[str, tuple[str, str]] = field(default_factory=dict)

    def profile(self, name: str, key: str, **changes: str) -> None:
        """Add a profile to ~/.aws/config."""
        access, secret = self.keys[key]
        said = {"endpoint_url": self.url, "ca_bundle": str(self.files / "ca.pem"), "region": "us-east-1",
                "aws_access_key_id": access, "aws_secret_access_key": secret, **changes}  # fmt: skip
        with (self.files / "aws").open("a", encoding="utf-8") as stream:
            stream.write("\n".join([f"[profile {name}]", *(f"{one} = {value}" for one, value in said.items())]) + "\n")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an authority (ca.pem), what it issued to loopback (pair.pem), and a foreign authority."""
    folder = tmp_path_factory.mktemp("authority")
    ca, key = certificates.authority(MASTER_KEY), certificates.host_key(MASTER_KEY, "store")
    (folder / "ca.pem").write_text(ca.pem)
    (folder / "foreign.pem").write_text(certificates.authority(bytes(32)).pem)
    pem = certificates.issue(ca, key, "store", ["127.0.0.1"], datetime.now(UTC))
    (folder / "certificate.pem").write_text(pem)
    (folder / "key.pem").write_text(key)
    (folder / "pair.pem").write_text(pem + key)
    return folder


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def clients(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let clients read logins from a folder alone, and reach loopback without proxies."""
    for name in [one for one in os.environ if one.startswith(("AWS_", "OS_"))]:
        patch.delenv(name)
    patch.setenv("AWS_CONFIG_FILE", str(folder / "aws"))
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "none"))
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    patch.setenv("OS_CLIENT_CONFIG_FILE", str(folder / "clouds.yaml"))
    patch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="session")
def s3(authority: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server of S3 that checks keys; `good` may do everything with its bucket, `poor` nothing."""
    pytest.importorskip("moto.server")
    import boto3  # noqa: PLC0415  # not where the tests of folders run alone

    folder, port = tmp_path_factory.mktemp("s3"), free_port()
    (folder / "ca.pem").write_text((authority / "ca.pem").read_text())
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    argv += ["-c", str(authority / "certificate.pem"), "-k", str(authority / "key.pem")]
    # Five calls make users and the bucket; from then on keys and policies count.
    environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "6"}
    with (folder / "log").open("wb") as log, pytest.MonkeyPatch.context() as patch:
        process = subprocess.Popen(argv, stdout=log, stderr=log, env=environment)
        try:
            clients(patch, folder)
            server = Server(f"https://127.0.0.1:{port}", folder)
            end = time.monotonic() + 60
            while socket.socket().connect_ex(("127.0.0.1", port)):
                assert process.poll() is None and time.monotonic() < end, (folder / "log").read_text()
                time.sleep(0.1)
            first = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1",
                     "endpoint_url": server.url, "verify": str(folder / "ca.pem")}  # fmt: skip
            iam: Any = boto3.client("iam", **first)
            for name in ("good", "poor"):
                iam.create_user(UserName=name)
                key = iam.create_access_key(UserName=name)["AccessKey"]
                server.keys[name] = (key["AccessKeyId"], key["SecretAccessKey"])
            statement = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
            policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            iam.put_user_policy(UserName="good", PolicyName="all", PolicyDocument=policy)
            boto3.client("s3", **first).create_bucket(Bucket="backups")
            server.profile("good", "good")
            yield server
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def swift(authority: Path, tmp_path: Path) -> Iterator[fake_swift.FakeSwift]:
    """Run a server of Swift with the container `backups`."""
    with fake_swift.running(authority / "pair.pem") as server:
        server.containers["backups"] = {}
        write_clouds(tmp_path, server, authority)
        yield server


def write_clouds(folder: Path, server: fake_swift.FakeSwift, authority: Path, **changes: Any) -> None:
    auth = {"auth_url": f"{server.url}/v3", "username": server.user, "password": server.password,
            "project_name": "backups", "user_domain_id": "default", "project_domain_id": "default"}  # fmt: skip
    cacert = changes.pop("cacert", str(authority / "ca.pem"))
    region = changes.pop("region_name", "east")
    auth = {name: one for name, one in (auth | changes).items() if one is not None}
    entry = {"auth": auth, "region_name": region, "cacert": cacert}
    (folder / "clouds.yaml").write_text(yaml.safe_dump({"clouds": {"good": entry}}))


@dataclass
class Place:
    """A store under test."""

    path: str
    login: str = ""

    @property
    def where(self) -> dict[str, str]:
        """Return it as requests take it."""
        return {"path": self.path, "login": self.login}

    def store(self) -> Any:
        """Return it opened."""
        return backup_store.opened(self.path, self.login)

    def beside(self, path: str) -> Place:
        """Return a place beside it."""
        return Place(f"{self.path}{path}", self.login)

    def left(self) -> list[str]:
        """Return everything that lies there."""
        if not self.login:
            return sorted(str(one) for one in Path(self.path).rglob("*"))
        return list(self.store()._bucket.entries(self.store()._prefix))


@pytest.fixture(params=["folder", "s3", "swift"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Return each kind of store, empty."""
    if request.param == "folder":
        return Place(f"{tmp_path}/store")
    server = request.getfixturevalue(request.param)
    clients(monkeypatch, server.files if request.param == "s3" else tmp_path)
    return Place(f"{request.param}://backups/clouds/{uuid.uuid4().hex}", "good")


def put(place: Place, name: str, file: str, text: bytes) -> dict[str, Any]:
    """Write a file as a run does."""
    call = backup_stream.Call(HERE, "store_put", {**place.where, "name": name, "file": file})
    call.input.write(text)
    return dict(call.end())


def test_a_place_that_is_not_there_yet_is_empty(place: Place) -> None:
    assert place.store().list() == {"manifests": {}, "partial": [], "strange": []}


def test_a_backup_is_whole_only_with_its_manifest_and_reads_as_it_was_written(place: Place) -> None:
    ask = backup_stream.ask
    text = os.urandom(3 << 20)
    ask(HERE, "store_begin", **place.where, name=FULL)
    assert ask(HERE, "store_list", **place.where)["partial"] == [f"{FULL}.partial"]
    part = put(place, FULL, "database", text)
    assert part == {"size": len(text), "sha256": hashlib.sha256(text).hexdigest()}
    put(place, FULL, "images-one", b"")
    assert ask(HERE, "store_list", **place.where) == {"manifests": {}, "partial": [f"{FULL}.partial"], "strange": []}
    ask(HERE, "store_commit", **place.where, name=FULL, manifest="{}")
    ask(HERE, "store_begin", **place.where, name=NEXT)
    said = ask(HERE, "store_list", **place.where)
    assert said == {"manifests": {FULL: "{}"}, "partial": [f"{NEXT}.partial"], "strange": []}
    assert ask(HERE, "store_sum", **place.where, name=FULL, file="database") == part["sha256"]
    call = backup_stream.Call(HERE, "store_get", {**place.where, "name": FULL, "file": "database"})
    assert call.output.read() == text
    call.end()
    assert list(place.store().read(FULL, "images-one")) in ([], [b""])
    with pytest.raises(backup_stream.StreamError, match="images-two"):
        ask(HERE, "store_sum", **place.where, name=FULL, file="images-two")


def test_files_of_many_pieces_keep_their_order(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup_store, "PIECE", 10)
    store = place.store()
    store.begin(FULL)
    for count in (9, 10, 11, 125):
        text = bytes(range(count))
        store.write(FULL, f"file-{count}", (text[number : number + 5] for number in range(0, count, 5)))
    store.commit(FULL, "{}")
    for count in (9, 10, 11, 125):
        assert b"".join(store.read(FULL, f"file-{count}")) == bytes(range(count))


def test_what_is_deleted_leaves_nothing_and_nothing_else_goes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup_store, "PIECE", 10)
    beside = place.beside("-two")
    for one in (place, beside):
        for name in (FULL, NEXT):
            one.store().begin(name)
            one.store().write(name, "database", [bytes(10)] * 5)
        one.store().commit(FULL, "{}")
    place.store().delete([FULL, f"{NEXT}.partial"])
    assert place.left() == []
    said = {"manifests": {FULL: "{}"}, "partial": [f"{NEXT}.partial"], "strange": []}
    assert beside.store().list() == said
    beside.store().delete([f"{NEXT}.partial", FULL])


def test_a_backup_that_is_half_deleted_never_looks_whole(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = place.store()
    store.begin(FULL)
    store.write(FULL, "database", [b"text"])
    store.write(FULL, "images-one", [b"text"])
    store.commit(FULL, "{}")
    removed: list[str] = []

    def counted(real: Callable[[str], None], limit: int) -> Callable[[str], None]:
        def remove(key: str) -> None:
            if len(removed) >= limit:
                raise KeyboardInterrupt
            removed.append(key)
            real(key)

        return remove

    for limit in (1, 2, 2) if place.login else (0,):
        removed.clear()
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            if place.login:
                patch.setattr(store._bucket, "remove", counted(store._bucket.remove, limit))
            else:
                patch.setattr(backup_store.shutil, "rmtree", counted(backup_store.shutil.rmtree, limit))
            store.delete([FULL] if limit < 2 else [f"{FULL}.partial"])
        assert store.list() == {"manifests": {}, "partial": [f"{FULL}.partial"], "strange": []}
    store.delete([f"{FULL}.partial"])
    assert place.left() == []


def test_a_run_that_is_killed_leaves_what_is_not_whole(place: Place) -> None:
    place.store().begin(FULL)
    call = backup_stream.Call(HERE, "store_put", {**place.where, "name": FULL, "file": "database"})
    before = place.left()
    call.input.write(bytes(backup_store.PIECE + 1))
    call.input.flush()
    end = time.monotonic() + 60
    while place.left() == before:
        assert time.monotonic() < end
        time.sleep(0.1)
    call.stop()
    assert place.store().list() == {"manifests": {}, "partial": [f"{FULL}.partial"], "strange": []}
    place.store().delete([f"{FULL}.partial"])
    assert place.left() == []


def test_what_is_no_backup_is_named(place: Place) -> None:
    if place.login:
        bucket = place.store()._bucket
        bucket.put(place.store()._prefix + "notes", b"")
        bucket.put(place.store()._prefix, b"")  # what consoles make for a folder
    else:
        Path(place.path).mkdir()
        (Path(place.path) / "notes").touch()
    assert place.store().list()["strange"] == ["notes"]


def test_a_listing_that_is_late_makes_no_whole_backup_a_partial_one(
    swift: fake_swift.FakeSwift, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients(monkeypatch, tmp_path)
    store = backup_store.opened("swift://backups", "good")
    store.begin(FULL)
    store.write(FULL, "database", [b"text"])
    store.commit(FULL, "{}")
    swift.unlisted = {"manifest.json", "000000"}
    assert store.list()["manifests"] == {FULL: "{}"}
    assert list(store.read(FULL, "database")) == [b"text"]


def test_a_store_that_contradicts_itself_makes_no_whole_backup_a_partial_one(
    swift: fake_swift.FakeSwift, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients(monkeypatch, tmp_path)
    store = backup_store.opened("swift://backups/east", "good")
    store.begin(FULL)
    store.write(FULL, "database", [b"text"])
    store.commit(FULL, "{}")
    swift.unread = {"manifest.json"}
    with pytest.raises(backup_store.StoreError, match=rf"^backup_path: east/{FULL}/manifest.json: .*\n  next: "):
        store.list()
    swift.unread, swift.newest = set(), []
    assert store.list()["manifests"] == {FULL: "{}"} and list(store.read(FULL, "database")) == [b"text"]
    assert swift.newest == [f"east/{FULL}/manifest.json"], "of the manifest, and not of what takes long"


def test_a_token_that_has_ended_is_asked_for_again(
    swift: fake_swift.FakeSwift, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients(monkeypatch, tmp_path)
    store = backup_store.opened("swift://backups", "good")
    store.begin(FULL)
    swift.tokens.clear()
    store.write(FULL, "database", [b"text"])
    assert swift.containers["backups"][f"{FULL}/database/000000"] == b"text" and swift.issued == 2


def listed(path: str, login: str) -> str:
    """Return the error of what is asked first, as a run shows it."""
    with pytest.raises(backup_stream.StreamError) as caught:
        backup_stream.ask(HERE, "store_list", path=path, login=login)
    said = str(caught.value)
    assert "\n  next: " in said, said
    return said


@pytest.mark.parametrize(
    ("change", "path", "expected"),
    [
        ({}, "s3://nowhere/east", r"backup_path: s3://nowhere: is not there\n"),
        ({}, "s3://UPPER_/east", r"backup_path: s3://UPPER_: "),
        ({"aws_secret_access_key": SECRET}, "s3://backups", r"backup_login: .* refuses the login of .*Signature"),
        ({"aws_access_key_id": "AKIAWRONG"}, "s3://backups", r"backup_login: .* refuses the login of profile p"),
        ({"ca_bundle": "foreign.pem"}, "s3://backups", r"backup_login: .*not trusted.*\n  next: .*ca_bundle"),
        ({"ca_bundle": "/nowhere"}, "s3://backups", r"backup_login: .*No such file.*\n  next: .*ca_bundle"),
        ({"endpoint_url": "https://127.0.0.1:1"}, "s3://backups", r"backup_login: .*its endpoint_url does not answer"),
        ({"endpoint_url": "nonsense"}, "s3://backups", r"backup_login: .*nonsense"),
        ({"key": "poor"}, "s3://backups", r"backup_login: s3://backups: profile p\d+ may not do this there"),
    ],
)
def test_what_is_wrong_with_s3_is_told_with_its_key(
    s3: Server, authority: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], path: str, expected: str
) -> None:
    clients(monkeypatch, s3.files)
    name = f"p{uuid.uuid4().int}"
    more = {**change}
    if more.get("ca_bundle", "").startswith("f"):
        more["ca_bundle"] = str(authority / more["ca_bundle"])
    s3.profile(name, more.pop("key", "good"), **more)
    said = listed(path, name)
    assert re.search(expected, said), said
    assert SECRET not in said and s3.keys["good"][1] not in said


def test_a_profile_that_is_not_there_and_no_login_are_told(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    clients(monkeypatch, s3.files)
    assert "backup_login: profile none: " in listed("s3://backups", "none")
    assert "backup_login: profile default: Unable to locate credentials" in listed("s3://backups", "")


@pytest.mark.parametrize(("cuts", "reset"), [(3, False), (3, True), (4, False), (4, True)])
def test_an_object_of_s3_whose_reading_breaks_off_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuts: int, reset: bool
) -> None:
    pytest.importorskip("boto3")
    asked: list[str] = []

    class Cutting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Send the begin of an object, and all of it later."""
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "8")
            self.end_headers()
            self.wfile.write(b"manifest" if len(asked) > cuts else b"mani")
            if reset and len(asked) <= cuts:
                self.wfile.flush()
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    clients(monkeypatch, tmp_path)
    monkeypatch.setattr(backup_store, "PAUSE", 0.01)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Cutting)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        Server(f"http://127.0.0.1:{server.server_address[1]}", tmp_path, {"good": ("a", "b")}).profile("good", "good")
        bucket = backup_store.S3("backups", "good")
        if cuts < 4:
            assert bucket.get("key") == b"manifest"
        else:
            with pytest.raises(backup_store.StoreError, match=r"s3://backups: .*\n  next: "):
                bucket.get("key")
        assert len(asked) == 4
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("change", "path", "expected"),
    [
        ({}, "swift://nowhere/east", r"backup_path: swift://nowhere: is not there\n"),
        ({"password": "wrong-horse"}, "swift://backups", r"backup_login: .* refuses the login of entry good"),
        ({"cacert": "foreign.pem"}, "swift://backups", r"backup_login: .*not trusted.*\n  next: .*cacert"),
        ({"cacert": "/nowhere"}, "swift://backups", r"backup_login: .*/nowhere"),
        ({"auth_url": "https://127.0.0.1:1/v3"}, "swift://backups", r"backup_login: .*its auth_url .*does not answer"),
        ({"region_name": "west"}, "swift://backups", r"backup_login: entry good: that cloud has no object store"),
        ({"auth_url": None}, "swift://backups", r"backup_login: entry good: "),
    ],
)
def test_what_is_wrong_with_swift_is_told_with_its_key(
    swift: fake_swift.FakeSwift, authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any], path: str, expected: str,
) -> None:  # fmt: skip
    clients(monkeypatch, tmp_path)
    more = {**change}
    if more.get("cacert", "").startswith("f"):
        more["cacert"] = str(authority / more["cacert"])
    write_clouds(tmp_path, swift, authority, **more)
    said = listed(path, "good")
    assert re.search(expected, said), said
    assert swift.password not in said and "wrong-horse" not in said


def test_an_entry_that_is_not_there_and_a_container_that_is_read_only_are_told(
    swift: fake_swift.FakeSwift, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients(monkeypatch, tmp_path)
    assert "backup_login: entry none: " in listed("swift://backups", "none")
    swift.forbidden = True
    with pytest.raises(backup_stream.StreamError, match="backup_login: swift://backups: entry good may not do this"):
        backup_stream.ask(HERE, "store_begin", path="swift://backups", login="good", name=FULL)


@pytest.mark.parametrize(("path", "library"), [("s3://backups", "boto3"), ("swift://backups", "openstacksdk")])
def test_a_library_that_lacks_is_named(path: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("boto3", "openstack.config"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(backup_store.StoreError, match=rf"backup_path: needs {library}, which .* lacks\n  next: "):
        backup_store.opened(path, "good")


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/srv/b", ("", "/srv/b", "")), ("s3://b", ("s3", "b", "")), ("s3://b-1/a/b.c/", ("s3", "b-1", "a/b.c")),
     ("swift://b/a", ("swift", "b", "a"))],
)  # fmt: skip
def test_paths_are_read(path: str, expected: tuple[str, str, str]) -> None:
    assert backup_store.parse(path) == expected


OTHERS = ("", "srv", "ftp://b/a", "s3://", "s3:///a", "s3://b//a", "s3://b/../c", "s3://u:p@b/a", "S3://b")


@pytest.mark.parametrize("path", OTHERS)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(backup_store.StoreError, match=r"^backup_path: .*s3://bucket/prefix"):
        backup_store.parse(path)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["backup_path=ftp://b/a"], "backup_path: ftp://b/a: is neither"),
        (["backup_path=swift://b/a"], "backup_login: names no login for Swift"),
        (["backup_path=s3://b/a", "backup_host=one"], "backup_host: s3 is reached from the deploy host alone"),
    ],
)
@pytest.mark.parametrize("name", ["backup.yml", "restore.yml"])
def test_what_was_asked_for_is_judged_before_any_host(
    tmp_path: Path, name: str, options: list[str], expected: str
) -> None:
    extra = [word for one in options for word in ("-e", one)]
    done = playbook(one_host(tmp_path / "inventory"), name, *extra)
    assert expected in done.stdout and "UNREACHABLE" not in done.stdout, done.stdout + done.stderr


def test_errors_that_are_explained_exist() -> None:
    import botocore.exceptions  # noqa: PLC0415  # not where the tests of folders run alone
    import keystoneauth1.exceptions  # noqa: PLC0415
    import openstack.exceptions  # noqa: PLC0415

    codes = {"NoSuchBucket", "InvalidBucketName", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken",
             "InvalidToken", "AccessDenied", "PermanentRedirect", "AuthorizationHeaderMalformed"}  # fmt: skip
    builtin = {"ValueError", "OSError"}
    assert set(backup_store.S3_SAID) - builtin - codes <= set(dir(botocore.exceptions))
    known = {*dir(keystoneauth1.exceptions), *dir(openstack.exceptions)}
    assert set(backup_store.SWIFT_SAID) - builtin <= known
