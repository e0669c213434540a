"""A backup of a real server, restored: full, incremental, cut off, spoiled. Needs MariaDB, age, zstd, and root."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import age_keys, backup, backup_host, backup_stream, host_lock

MISSING = [name for name in (*backup_host.TOOLS, "mariadbd", "mariadb") if shutil.which(name) is None]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"lacks {', '.join(MISSING)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="servers run as their own user, which root alone can do"),
]

LOCAL = ["/bin/sh", "-c", "echo noise of a login; " + backup_stream.shell()]
SECRET = "a secret"


@dataclass
class Server:
    """A server with data of its own, without network."""

    folder: Path

    @property
    def client(self) -> list[str]:
        """Return words for a client."""
        return ["--no-defaults", f"--socket={self.folder}/run/socket", "--user=root"]

    def sql(self, text: str) -> str:
        """Return what statements print."""
        argv = ["mariadb", *self.client, "--batch", "--skip-column-names"]
        return subprocess.run(argv, input=text, capture_output=True, text=True, check=True, timeout=60).stdout

    def request(self, from_lsn: int | None) -> dict[str, Any]:
        """Return how this server is backed up."""
        options = ["--no-defaults", f"--socket={self.folder}/run/socket", "--user=root"]
        work = f"{self.folder}/pack"
        return {"data": f"{self.folder}/data", "client": self.client, "options": options, "from_lsn": from_lsn,
                "recipient": age_keys.recipient(SECRET), "folder": work}  # fmt: skip

    def pack(self, name: str, from_lsn: int | None = None) -> dict[str, Any]:
        """Back the server up and make the backup whole; return what is known of it."""
        store = str(self.folder / "store")
        backup_stream.ask(LOCAL, "store_begin", path=store, name=name)
        source = backup_stream.Call(LOCAL, "database_pack", self.request(from_lsn))
        target = backup_stream.Call(LOCAL, "store_put", {"path": store, "name": name, "file": "database"})
        made, part = backup_stream.flow(source, target)
        backup_stream.ask(LOCAL, "store_commit", path=store, name=name, manifest="{}")
        return {**made, **part}

    def unpack(self, name: str, sha256: str, identity: str = "") -> None:
        """Unpack a backup."""
        where = {"path": f"{self.folder}/store", "name": name, "file": "database"}
        source = backup_stream.Call(LOCAL, "store_get", where)
        request = {"folder": f"{self.folder}/work", "name": name, "identity": identity or age_keys.identity(SECRET)}
        backup_stream.flow(source, backup_stream.Call(LOCAL, "database_unpack", {**request, "sha256": sha256}))

    def try_out(self, *names: str) -> dict[str, Any]:
        """Return the tables of a throw-away server."""
        return dict(backup_stream.ask(LOCAL, "database_try", folder=f"{self.folder}/work", names=list(names))["tables"])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="brume-backup-", dir="/tmp"))
    monkeypatch.setattr(host_lock, "FOLDER", str(folder / "locks"))
    folder.chmod(0o711)
    one = Server(folder)
    (folder / "run").mkdir()
    shutil.chown(folder / "run", "mysql", "mysql")
    install = ["mariadb-install-db", "--no-defaults", f"--datadir={folder}/data", "--user=mysql", "--skip-test-db"]
    subprocess.run([*install, "--auth-root-authentication-method=socket"], check=True, capture_output=True)
    argv = ["mariadbd", "--no-defaults", f"--datadir={folder}/data", "--user=mysql", "--skip-networking"]
    argv += [f"--socket={folder}/run/socket", f"--pid-file={folder}/run/pid", f"--log-error={folder}/run/log"]
    argv += ["--innodb-buffer-pool-size=32M"]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _attempt in range(100):
            if subprocess.run(["mariadb", *one.client, "-e", "DO 1"], capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.2)
        one.sql("CREATE DATABASE nova; CREATE TABLE nova.instances (id INT PRIMARY KEY, name VARCHAR(50), ratio FLOAT);"
                "CREATE TABLE nova.`odd-name` (id INT PRIMARY KEY); INSERT INTO nova.`odd-name` VALUES (1), (2);"
                "INSERT INTO nova.instances VALUES (1, 'a\\tb', 0.1), (2, NULL, 1.5);")  # fmt: skip
        time.sleep(1.1)
        yield one
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(folder)


def test_full_and_incremental_backups_are_restored_and_compared(server: Server) -> None:
    full = server.pack("full")
    assert {name: one["rows"] for name, one in full["tables"].items()} == {"nova.instances": 2, "nova.odd-name": 2}
    assert not any(one["moving"] for one in full["tables"].values())
    server.sql("INSERT INTO nova.instances VALUES (3, 'later', 2.5); CREATE TABLE nova.more (id INT PRIMARY KEY);")
    time.sleep(1.1)
    more = server.pack("more", full["to_lsn"])
    assert more["identity"] == full["identity"]
    assert more["size"] < full["size"]
    assert full["unpacked"] > full["size"] and full["unpacked"] > more["unpacked"] > 0
    server.unpack("full", full["sha256"])
    held = sum(one.stat().st_size for one in (server.folder / "work/full").rglob("*") if one.is_file())
    assert full["unpacked"] >= held, "what is asked for before unpacking is too little"
    assert backup.differences(full["tables"], server.try_out("full")) == []
    server.unpack("full", full["sha256"])
    server.unpack("more", more["sha256"])
    tables = server.try_out("full", "more")
    assert backup.differences(more["tables"], tables) == []
    assert backup.differences(full["tables"], tables) == [
        "nova.more: is there, and was not",
        "nova.instances: has 3 rows, not the 2 of the backup, or others",
    ]
    assert not list((server.folder / "work").glob("server"))


def test_a_restored_server_that_lacks_a_row_is_found(server: Server) -> None:
    full = server.pack("full")
    full["tables"]["nova.instances"]["checksum"] = "1"
    server.unpack("full", full["sha256"])
    assert backup.differences(full["tables"], server.try_out("full"))


def test_a_table_that_is_written_to_meanwhile_is_not_compared(server: Server) -> None:
    before = backup_host._written(server.client)
    time.sleep(1.1)
    server.sql("UPDATE nova.instances SET name = 'now' WHERE id = 1")
    found = backup_host.fingerprints(server.client, before)
    assert {name: one["moving"] for name, one in found.items()} == {"nova.instances": True, "nova.odd-name": False}


def test_the_backup_takes_the_place_of_data_and_a_member_is_emptied(server: Server) -> None:
    for cell in ("nova_cell0", "nova_cell1"):
        server.sql(f"CREATE DATABASE {cell}; CREATE TABLE {cell}.compute_nodes (host TEXT, uuid TEXT, deleted INT);")
    server.sql("INSERT INTO nova_cell1.compute_nodes VALUES ('one', 'a', 0), ('one', 'b', 1), ('two', 'c', 0);")
    server.sql("CREATE TABLE nova_cell1.instances (id INT AUTO_INCREMENT PRIMARY KEY);")
    server.sql("INSERT INTO nova_cell1.instances VALUES (7);")
    cells = ("nova_api", "nova_cell0", "nova_cell1")  # the backup has no nova_api
    identities = [{"file": "/id", "tables": [f"{cell}.compute_nodes" for cell in cells], "host": "host",
                   "identity": "uuid"}]  # fmt: skip
    wish = {"ahead": [f"{cell}.instances" for cell in cells], "identities": identities}
    full = server.pack("full")
    server.unpack("full", full["sha256"])
    tried = backup_stream.ask(LOCAL, "database_try", folder=f"{server.folder}/work", names=["full"], **wish)
    assert tried["identities"] == {"/id": {"one": "a", "two": "c"}}
    assert tried["numbers"] == {"nova_cell1.instances": 1_000_008}, "what was made since may still be there"
    data = server.folder / "new"
    data.mkdir()
    (data / "debian-12.flag").touch()
    (data / "old").touch()
    work = f"{server.folder}/work"
    backup_stream.ask(LOCAL, "database_place", folder=work, name="full", data=str(data))
    assert (data / "nova/instances.ibd").exists() and (data / "debian-12.flag").exists()
    assert not (data / "old").exists() and not Path(work).exists()
    assert data.stat().st_mode & 0o777 == 0o755 and data.owner() == "mysql"
    backup_stream.ask(LOCAL, "database_empty", data=str(data))
    assert (data / "mysql").exists() and not (data / "nova").exists()


def test_data_that_a_server_runs_on_is_not_replaced(server: Server) -> None:
    with pytest.raises(backup_stream.StreamError, match="a server runs on it"):
        backup_stream.ask(LOCAL, "database_empty", data=f"{server.folder}/data")
    assert server.sql("SELECT COUNT(*) FROM nova.instances") == "2\n"


def test_what_is_kept_shows_nothing_and_nobody_else_opens_it(server: Server) -> None:
    server.sql("INSERT INTO nova.instances VALUES (9, 'a name to look for', 1)")
    full = server.pack("full")
    file = server.folder / "store/full/database"
    assert file.read_bytes().startswith(b"age-encryption.org/v1\n") and b"name to look for" not in file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
    with pytest.raises(backup_stream.StreamError, match=r"age: .*no identity matched"):
        server.unpack("full", full["sha256"], age_keys.identity("another secret"))


@pytest.mark.parametrize("spoil", ["flip", "cut"])
def test_a_spoiled_file_is_refused(server: Server, spoil: str) -> None:
    full = server.pack("full")
    file = server.folder / "store/full/database"
    with file.open("r+b") as stream:
        if spoil == "cut":
            stream.truncate(full["size"] - 100_000)
        else:
            stream.seek(full["size"] // 2)
            byte = stream.read(1)[0]
            stream.seek(full["size"] // 2)
            stream.write(bytes([byte ^ 1]))
    with pytest.raises(backup_stream.StreamError):
        server.unpack("full", full["sha256"])
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(backup_stream.StreamError, match="database_unpack: age"):  # by itself too
        server.unpack("full", digest)


def test_another_backup_in_the_place_of_one_is_refused(server: Server) -> None:
    full, other = server.pack("full"), server.pack("other")
    assert full["sha256"] != other["sha256"]
    (server.folder / "store/other/database").replace(server.folder / "store/full/database")
    with pytest.raises(backup_stream.StreamError, match="database_unpack: what is kept is not what was written"):
        server.unpack("full", full["sha256"])


def test_a_run_that_is_killed_leaves_no_whole_backup_and_no_process(server: Server) -> None:
    store = str(server.folder / "store")
    backup_stream.ask(LOCAL, "store_begin", path=store, name="20260102T030405Z-full")
    source = backup_stream.Call(LOCAL, "database_pack", server.request(None))
    stream = source.output
    assert stream.read(1000)  # it is under way, and goes no further than pipes hold
    source.stop()
    for _attempt in range(50):
        shown = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True).stdout
        if f"{server.folder}/pack" not in shown:
            break
        time.sleep(0.1)
    else:
        pytest.fail("mariadb-backup goes on without the run")
    listed = backup_stream.ask(LOCAL, "store_list", path=store)
    assert listed["manifests"] == {} and listed["partial"] == ["20260102T030405Z-full.partial"]
    server.sql("INSERT INTO nova.instances VALUES (5, 'writes go on', 1)")


def test_a_server_says_what_it_is(server: Server) -> None:
    said = backup_stream.ask(LOCAL, "member", data=f"{server.folder}/data", client=server.client)
    assert said["active"] and said["clients"] == 0 and said["missing"] == []
    assert said["identity"] and said["version"]
    nowhere = ["--no-defaults", "--socket=/nowhere"]
    gone = backup_stream.ask(LOCAL, "member", data=f"{server.folder}/data", client=nowhere)
    assert not gone["active"]


def test_a_failing_backup_says_why(server: Server) -> None:
    request = {**server.request(None), "options": ["--no-defaults", "--socket=/nowhere"]}
    (server.folder / "store/x.partial").mkdir(parents=True)
    where = {"path": f"{server.folder}/store", "name": "x", "file": "database"}
    with pytest.raises(backup_stream.StreamError, match=r"database_pack: mariadb-backup: .*Failed to connect"):
        source = backup_stream.Call(LOCAL, "database_pack", request)
        backup_stream.flow(source, backup_stream.Call(LOCAL, "store_put", where))
