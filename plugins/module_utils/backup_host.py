"""What is done on hosts for a backup: on that of the database, on controllers, and on compute hosts.

Its text is handed to the host's Python through a pipe (see `backup_stream`), so it needs the standard library alone.
Requests come by standard input, secrets among them. Data comes and goes by standard input and output; results and
errors are lines on standard error. No file of it holds a key.
"""

from __future__ import annotations

import ctypes
import glob
import hashlib
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

RESULT, ERROR = "brume-result ", "brume-error "
BEGIN = b"brume-stream\n"
"""Before it, what a shell or sudo prints does not count."""

PARTIAL = ".partial"
"""Ending of the name of what is not unpacked whole."""

CHUNK = 1 << 20
TOOLS = ("mariadb-backup", "mbstream", "age", "zstd")
TABLES = """SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME), IFNULL(UPDATE_TIME, '') FROM information_schema.TABLES
WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema')
ORDER BY 1;"""
"""Lists tables of all but the schemas that every server has, and when each was last written to."""

SERVER = """SELECT 'version', VERSION();
SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_cluster_status', 'wsrep_local_state', 'wsrep_cluster_size');
SELECT 'clients', COUNT(*) FROM information_schema.PROCESSLIST
WHERE HOST NOT IN ('', 'localhost') AND USER <> 'system user';"""

NUMBERS = """SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME), IFNULL(AUTO_INCREMENT, '') FROM information_schema.TABLES
WHERE TABLE_TYPE = 'BASE TABLE';"""
"""Lists all tables, and the number of the next row of those that count."""

AHEAD = 1_000_000
"""How many numbers are left out after a restore: what was made since the backup may still be there with its own."""

START_SECONDS = 300


class Failure(Exception):
    """The host could not do it; the text says why."""


_held: list[int] = []
"""File descriptors of the host's lock; commands inherit them, so that what a killed run leaves behind holds it too."""


def main(request: dict[str, Any], lock: dict[str, Any], folder: str, store: dict[str, Any]) -> None:
    """Do what a request asks and report it; ends the process with 1 when it failed.

    `lock` has the names of `host_lock`, `store` those of `backup_store`, and `folder` is where the host's locks lie.
    """
    sys.stdout.buffer.write(BEGIN)
    sys.stdout.flush()
    do = {**DOES, **store["DOES"]}[request.pop("do")]
    try:
        if do in LOCKING and os.geteuid() == 0:
            holder = lock["take"](folder, {"module": f"backup {do.__name__}"}, lock["WAIT"])
            if holder is not None:
                raise Failure(f"this host is being changed by {lock['describe'](holder)}; let it end, and run again")
            _held.extend(lock["inherited"]())
        os.umask(0o077)  # not for the folder of locks, which is everybody's to see
        result = do(**request)
    except (Failure, OSError, subprocess.SubprocessError) as error:
        _say(ERROR + json.dumps(str(error)))
        sys.exit(1)
    sys.stdout.flush()
    _say(RESULT + json.dumps(result))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# controllers


def controller(keys: str, records: str) -> dict[str, Any]:
    """Return the index of the primary key of a repository, and the releases that schemas serve by their records."""
    indexes = [int(name) for name in os.listdir(keys) if name.isdecimal()] if os.path.isdir(keys) else []
    releases: set[str] = set()
    for name in os.listdir(records) if os.path.isdir(records) else ():
        with open(os.path.join(records, name), encoding="utf-8") as stream:
            releases.update(str(one) for one in json.load(stream).get("releases") or ())
    return {"primary": max(indexes, default=None), "releases": sorted(releases)}


def images_list(images: str) -> dict[str, int]:
    """Return the names and sizes of files of an image store."""
    found = {}
    for one in os.scandir(images) if os.path.isdir(images) else ():
        with suppress(FileNotFoundError):  # deleted meanwhile
            if one.is_file():
                found[one.name] = one.stat().st_size
    return found


def images_pack(images: str, names: list[str], recipient: str) -> dict[str, int]:
    """Write files of an image store to standard output, encrypted; return the names and sizes of those in it.

    Not among them are what was deleted meanwhile, and what was written to meanwhile, of which a part is in it.
    """
    packed: dict[str, int] = {}

    def give(stream: IO[bytes]) -> None:
        with tarfile.open(fileobj=stream, mode="w|", bufsize=CHUNK) as archive:
            for name in names:
                with suppress(FileNotFoundError), open(f"{images}/{name}", "rb") as file:
                    one = tarfile.TarInfo(name)
                    one.size = os.fstat(file.fileno()).st_size
                    archive.addfile(one, file)
                    if os.fstat(file.fileno()).st_size == one.size:
                        packed[name] = one.size

    _pipe([["age", "--recipient", recipient]], given=give)
    return packed


def images_unpack(images: str, identity: str, sha256: str, sizes: dict[str, int]) -> list[str]:
    """Put files of an image store in place from standard input, as its folder's owner has them.

    `sizes` are those of files to put, and the store may serve meanwhile: they come whole and under another folder
    first, and what is there with that size stays. Nothing else of the archive is unpacked. Returns which were not in
    it. Raises Failure for an archive with another SHA-256, of which nothing is put in place, and without room.
    """
    owner, beside = os.stat(images), f"{images}/.brume-restore"
    shutil.rmtree(beside, ignore_errors=True)
    there = images_list(images)
    lacking = {name: size for name, size in sizes.items() if there.get(name) != size}
    takes, free = sum(lacking.values()), room(images)
    if free < takes:
        raise Failure(
            f"{images}: {len(lacking)} files take {takes >> 20} MiB there, and {free >> 20} MiB are free\n"
            "  next: make room there, and restore again; what is made until then is lost"
        )
    os.mkdir(beside)

    def take(stream: IO[bytes]) -> None:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK) as archive:
            for one in archive:
                content = archive.extractfile(one) if one.isreg() and lacking.get(one.name) == one.size else None
                if content is not None:
                    with open(f"{beside}/{one.name}", "wb") as file:
                        shutil.copyfileobj(content, file, CHUNK)
        while stream.read(CHUNK):  # what fills the archive's last block
            pass

    try:
        _decrypt(identity, sha256, take=take)
        there, come = images_list(images), images_list(beside)
        for name, size in lacking.items():
            if come.get(name) == size != there.get(name):
                os.chown(f"{beside}/{name}", owner.st_uid, owner.st_gid)
                os.chmod(f"{beside}/{name}", 0o640)
                os.rename(f"{beside}/{name}", f"{images}/{name}")
    finally:
        shutil.rmtree(beside)
    return [name for name, size in lacking.items() if come.get(name) != size]


# hosts whose components keep who they are


def identity_read(file: str) -> str:
    """Return the identity that a component has written on this host, empty for none."""
    if not os.path.exists(file):
        return ""
    with open(file, encoding="ascii") as stream:
        return stream.read().strip()


def identity_write(file: str, identity: str) -> None:
    """Write an identity for a component, which reads it and never writes it again."""
    os.makedirs(os.path.dirname(file), exist_ok=True)
    with open(f"{file}.new", "w", encoding="ascii") as stream:
        stream.write(identity)
        os.fchmod(stream.fileno(), 0o644)
    os.rename(f"{file}.new", file)


# the database


def member(data: str, client: list[str]) -> dict[str, Any]:
    """Return what a database server says of itself: its cluster, how many clients it serves, and whether tools lack."""
    found: dict[str, Any] = {"missing": [name for name in TOOLS if shutil.which(name) is None], "active": False}
    with suppress(Failure, FileNotFoundError):  # a new machine has no client yet
        found |= {row[0]: row[1] for row in _ask(client, SERVER)}
        found |= {"active": True, "clients": int(found["clients"]), "identity": _identity_of(data)}
    return found


def database_pack(
    data: str, client: list[str], options: list[str], recipient: str, from_lsn: int | None, folder: str
) -> dict[str, Any]:
    """Write a backup of the server to standard output, compressed and encrypted; return what it holds.

    `client` and `options` are words for the client and for mariadb-backup. The tables' checksums are those of one
    snapshot, taken as soon as the backup is whole; a table that was written to since the backup began is `moving`,
    because its checksum may be of later rows than the backup's.
    """
    before = _written(client)
    time.sleep(1.1 - time.time() % 1)  # UPDATE_TIME counts whole seconds
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    try:
        argv = ["mariadb-backup", *options, "--backup", "--stream=mbstream", f"--datadir={data}"]
        argv += [f"--target-dir={folder}/target", f"--extra-lsndir={folder}/lsn"]
        argv += [f"--incremental-lsn={from_lsn}"] if from_lsn is not None else []
        counting = ["env", "LC_ALL=C", "dd", "bs=1M"]
        said = _pipe([argv, counting, ["zstd", "--quiet", "--threads=1"], ["age", "--recipient", recipient]])
        unpacked = int(re.findall(r"^(\d+) bytes", said[1], re.MULTILINE)[-1])
        points = _points(f"{folder}/lsn")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    tables = fingerprints(client, before)
    found = {"tables": tables, "to_lsn": int(points["to_lsn"]), "identity": _identity_of(data)}
    return {**found, "unpacked": unpacked}


def _points(folder: str) -> dict[str, str]:
    """Return the positions of a backup (mariadb.com: Files Created by mariadb-backup; xtrabackup_* before 11.1)."""
    files = glob.glob(f"{folder}/*_checkpoints")
    if len(files) != 1:
        raise Failure(f"{folder}: mariadb-backup left no record of its positions")
    with open(files[0], encoding="utf-8") as stream:
        return dict(re.findall(r"^(\w+) = (.*)$", stream.read(), re.MULTILINE))


def _written(client: Sequence[str]) -> dict[str, str]:
    """Return when each table was last written to, as the server knows it since its start."""
    return {row[0]: row[1] for row in _ask(client, TABLES)}


def fingerprints(client: Sequence[str], before: dict[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """Return rows and checksum of each table in one snapshot, and whether it was written to since `before`."""
    names = list(_written(client))
    if not names:
        return {}
    quoted = {name: _quoted(name) for name in names}
    # The snapshot's; CHECKSUM TABLE ends no transaction.
    text = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION WITH CONSISTENT SNAPSHOT;"
    for name in names:
        counted = f"SELECT '{name}', 'rows', COUNT(*) FROM {quoted[name]};"  # noqa: S608  # names are the server's own
        text += f"CHECKSUM TABLE {quoted[name]} EXTENDED; {counted}"
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    for row in _ask(client, text):
        if row[1] == "rows":
            found[row[0]]["rows"] = int(row[2])
        else:
            found[row[0]]["checksum"] = row[1]
    if before is not None:
        after = _written(client)
        for name in names:
            found[name]["moving"] = before.get(name) != after.get(name)
    return found


def room(folder: str) -> int:
    """Return the free bytes where a folder is, or will be."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return shutil.disk_usage(folder).free


def database_unpack(folder: str, name: str, identity: str, sha256: str) -> None:
    """Unpack a backup from standard input to `folder/name`, which is made anew. Raises Failure if it is another's.

    Until its SHA-256 is known to be right, nothing has that name. What is unpacked stays below its folder: mbstream
    refuses names that lead out of it.
    """
    place = f"{folder}/{name}"
    for old in (place, place + PARTIAL):
        shutil.rmtree(old, ignore_errors=True)
    os.makedirs(place + PARTIAL)
    os.chmod(folder, 0o711)  # noqa: S103  # the server's user goes through it to its own
    unpack = ["mbstream", "--extract", f"--directory={place}{PARTIAL}"]
    try:
        _decrypt(identity, sha256, [["zstd", "--decompress", "--quiet"], unpack])
    except BaseException:
        shutil.rmtree(place + PARTIAL)
        raise
    os.rename(place + PARTIAL, place)


def database_try(
    folder: str, names: list[str], ahead: Sequence[str] = (), identities: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Prepare a full backup with its incremental ones, start a server on it that nobody else reaches, and look into it.

    The server has no network, and no cluster; its socket lies in a folder of its own. `ahead` are tables
    (`database.table`) whose next numbers are raised, and `identities` say by `file`, in which hosts keep who they
    are, the `tables` with the columns `host` and `identity` that know it too; of both, what the backup does not have
    does not count. Returned are its tables, the identities by file and host, and the numbers by table.
    """
    full = f"{folder}/{names[0]}"
    _run(["mariadb-backup", "--prepare", f"--target-dir={full}"])
    for name in names[1:]:
        _run(["mariadb-backup", "--prepare", f"--target-dir={full}", f"--incremental-dir={folder}/{name}"])
        shutil.rmtree(f"{folder}/{name}")
    user = pwd.getpwnam("mysql")
    own = f"{folder}/server"
    shutil.rmtree(own, ignore_errors=True)
    os.makedirs(own)
    _give(own, user)
    _give(full, user)
    argv = ["mariadbd", "--no-defaults", f"--datadir={full}", f"--socket={own}/socket", f"--pid-file={own}/pid"]
    argv += ["--skip-networking", "--skip-grant-tables", "--wsrep-on=OFF", "--innodb-buffer-pool-size=64M"]
    argv += [f"--log-error={own}/log", f"--tmpdir={own}"]
    client = ["--no-defaults", f"--socket={own}/socket"]
    server = subprocess.Popen(
        argv, user=user.pw_uid, group=user.pw_gid, extra_groups=[], preexec_fn=_end_with_parent,  # noqa: PLW1509
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=_held,
    )  # fmt: skip
    try:
        _await(server, client, f"{own}/log")
        tables = fingerprints(client)
        there = {row[0]: row[1] for row in _ask(client, NUMBERS)}
        known: dict[str, dict[str, str]] = {}
        for one in identities:
            own_hosts = known.setdefault(one["file"], {})
            for table in filter(there.__contains__, one["tables"]):
                text = f"SELECT `{one['host']}`, `{one['identity']}` FROM {_quoted(table)} WHERE deleted = 0;"  # noqa: S608  # names of descriptions
                own_hosts.update({row[0]: row[1] for row in _ask(client, text)})
        raised = [table for table in ahead if there.get(table)]
        for table in raised:
            _ask(client, f"ALTER TABLE {_quoted(table)} AUTO_INCREMENT = {int(there[table]) + AHEAD};")
        now = {row[0]: row[1] for row in _ask(client, NUMBERS)}
    finally:
        server.terminate()
        try:
            server.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    shutil.rmtree(own)
    return {"tables": tables, "identities": known, "numbers": {table: int(now[table]) for table in raised}}


def _quoted(table: str) -> str:
    """Return a name `database.table` as statements have it."""
    return ".".join(f"`{part}`" for part in table.split(".", 1))


def database_place(folder: str, name: str, data: str) -> None:
    """Put a prepared backup in the place of a server's data. Until it is whole there, no server can start on it."""
    user = pwd.getpwnam("mysql")
    _ended(data)
    os.chown(data, 0, 0)
    os.chmod(data, 0)
    _clear(data)
    for one in os.listdir(f"{folder}/{name}"):
        shutil.move(f"{folder}/{name}/{one}", f"{data}/{one}")
    _give(data, user)
    os.chmod(data, 0o755)  # noqa: S103  # as the package has it
    shutil.rmtree(folder)


def database_empty(data: str) -> None:
    """Give a member the data of one that has never run, so that it takes over everything."""
    _ended(data)
    _clear(data)
    _run(["mariadb-install-db", "--user=mysql", f"--datadir={data}", "--auth-root-authentication-method=socket",
          "--skip-test-db"])  # fmt: skip


def remove(paths: list[str]) -> None:
    """Remove folders and files that are not needed any more."""
    for path in paths:
        for one in glob.glob(path):
            shutil.rmtree(one) if os.path.isdir(one) else os.unlink(one)


def _ended(data: str) -> None:
    """Raise Failure while a server holds the data."""
    for link in glob.glob("/proc/[0-9]*/exe"):
        with suppress(OSError):
            if os.path.basename(os.readlink(link)).removesuffix(" (deleted)") in ("mariadbd", "mysqld"):
                folder = os.path.realpath(os.path.dirname(link) + "/cwd")
                if folder == os.path.realpath(data):
                    raise Failure(f"{data}: a server runs on it (process {link.split('/')[2]}); stop it and run again")


def _clear(data: str) -> None:
    """Remove a server's data; the distribution's marks of its version and what belongs to the file system stay."""
    for one in os.scandir(data):
        if one.name != "lost+found" and not re.fullmatch(r"debian-.*\.flag", one.name):
            shutil.rmtree(one.path) if one.is_dir(follow_symlinks=False) else os.unlink(one.path)


def _give(folder: str, user: pwd.struct_passwd) -> None:
    os.chown(folder, user.pw_uid, user.pw_gid)
    os.chmod(folder, 0o700)
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(f"{root}/{name}", user.pw_uid, user.pw_gid, follow_symlinks=False)


def _await(server: subprocess.Popen[bytes], client: list[str], log: str) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            _ask(client, "SELECT 1;")
            return
        except Failure:
            if server.poll() is None and time.monotonic() < end:
                time.sleep(0.2)
                continue
        with open(log, encoding="utf-8", errors="replace") as stream:
            said = [line.strip() for line in stream if "[ERROR]" in line]
        raise Failure("the server does not start on the restored data: " + " | ".join(said[-3:]))


def _end_with_parent() -> None:
    """Let the kernel end this process with its parent (prctl(2), PR_SET_PDEATHSIG), so that no orphan is left."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _identity_of(data: str) -> str:
    """Return what tells this data from that which a state transfer puts in its place: its file and when it was made.

    Positions in the log are those of one server's data, and an incremental backup is a difference of positions.
    """
    done = subprocess.run(["stat", "--format=%i:%W", f"{data}/ibdata1"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(done.stderr.strip())
    return done.stdout.strip()


@contextmanager
def _identity(text: str) -> Iterator[tuple[str, int]]:
    """Yield the path of a pipe from which age reads a key, and its file descriptor, which age has to inherit."""
    read, write = os.pipe()
    os.write(write, text.encode() + b"\n")
    os.close(write)
    try:
        yield f"/dev/fd/{read}", read
    finally:
        os.close(read)


def _decrypt(
    identity: str, sha256: str, commands: Sequence[list[str]] = (), take: Callable[[IO[bytes]], None] | None = None
) -> None:
    """Let standard input flow through age and commands to `take`. Raises Failure unless it had the given SHA-256.

    That is judged here and not where it comes from: whose run is killed or has failed gives an end like any other, and
    everybody can encrypt.
    """
    digest = hashlib.sha256()

    def give(stream: IO[bytes]) -> None:
        while piece := os.read(0, CHUNK):
            digest.update(piece)
            stream.write(piece)

    with _identity(identity) as (path, handle):
        _pipe([["age", "--decrypt", "--identity", path], *commands], give, handles=(handle,), reads=True, take=take)
    if digest.hexdigest() != sha256:
        raise Failure("what is kept is not what was written: its SHA-256 is another")


def _ask(client: Sequence[str], text: str) -> list[list[str]]:
    """Return the rows of statements, which are one session's. Raises Failure."""
    argv = ["mariadb", *client, "--batch", "--skip-column-names"]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"mariadb: {done.stderr.strip()}")
    return [line.split("\t") for line in done.stdout.splitlines()]


def _run(argv: list[str]) -> None:
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, pass_fds=_held
    )
    if done.returncode:
        raise Failure(f"{argv[0]}: {_tail(done.stdout + done.stderr)}")


def _tail(text: str) -> str:
    return " | ".join([line.strip() for line in text.splitlines() if line.strip()][-5:])


def _pipe(
    commands: list[list[str]],
    given: Callable[[IO[bytes]], None] | None = None,
    handles: tuple[int, ...] = (),
    reads: bool = False,
    take: Callable[[IO[bytes]], None] | None = None,
) -> list[str]:
    """Run commands as a pipe to standard output; return what each said. Raises Failure with what who failed said.

    The first reads what `given` writes, or nothing. When the run on the other side has ended, which the end of standard
    input tells, all of them are ended; with `reads`, `given` reads standard input, and nothing goes to standard output.
    `take` reads what the last one writes, in a thread; its OSError is raised, and a TarError as Failure.
    """
    started: list[subprocess.Popen[bytes]] = []
    said: list[bytearray] = []
    threads = []
    source: Any = subprocess.DEVNULL if given is None else subprocess.PIPE
    for argv in commands:
        target: Any = subprocess.PIPE if argv is not commands[-1] or take else subprocess.DEVNULL if reads else None
        try:
            kept = (*handles, *_held)
            one = subprocess.Popen(argv, stdin=source, stdout=target, stderr=subprocess.PIPE, pass_fds=kept)
        except OSError:
            for other in started:
                other.kill()
            raise
        if started and started[-1].stdout:
            started[-1].stdout.close()
        source = one.stdout
        started.append(one)
        text = bytearray()
        said.append(text)
        threads.append(threading.Thread(target=_collect, args=(one.stderr, text), daemon=True))
        threads[-1].start()
    wrong: list[Exception] = []
    if take is not None:
        threads.append(threading.Thread(target=_take, args=(take, started[-1].stdout, wrong), daemon=True))
        threads[-1].start()
    if not reads:
        threading.Thread(target=_end_with_run, args=(started,), daemon=True).start()
    if given is not None and started[0].stdin:
        try:
            with suppress(BrokenPipeError), started[0].stdin as stream:
                given(stream)
        except OSError:
            for one in started:
                one.kill()
            raise
    codes = [one.wait() for one in started]
    for thread in threads:
        thread.join()
    _judge(commands, codes, said, wrong)
    return [text.decode("utf-8", "replace") for text in said]


def _judge(
    commands: list[list[str]], codes: list[int], said: list[bytearray], wrong: list[Exception]
) -> None:
    # Who takes ends the commands before, which would say no more than that.
    for error in wrong:
        if isinstance(error, OSError):
            raise error
    # The one that ended by itself says why; others end because a neighbour has (SIGPIPE).
    failed = sorted((code == -signal.SIGPIPE, number) for number, code in enumerate(codes) if code)
    if failed:
        number = failed[0][1]
        text_of = said[number].decode("utf-8", "replace")
        raise Failure(f"{commands[number][0]}: {_tail(text_of) or f'exit code {codes[number]}'}")
    if wrong:
        raise Failure(f"what is kept is no whole archive: {wrong[0]}")


def _collect(stream: Any, text: bytearray) -> None:
    for piece in iter(lambda: stream.read1(65536), b""):
        text += piece
        del text[:-65536]


def _take(take: Callable[[IO[bytes]], None], stream: IO[bytes], wrong: list[Exception]) -> None:
    try:
        with stream:
            take(stream)
    except (OSError, tarfile.TarError) as error:
        wrong.append(error)


def _end_with_run(commands: list[subprocess.Popen[bytes]]) -> None:
    while os.read(0, 4096):
        pass
    for one in commands:
        one.kill()


DOES = {
    one.__name__: one
    for one in (
        controller, images_list, images_pack, images_unpack, identity_read, identity_write, member, room, database_pack,
        database_unpack, database_try, database_place, database_empty, remove,
    )
}  # fmt: skip
LOCKING = (images_pack, images_unpack, identity_write, database_pack, database_unpack, database_try, database_place,
           database_empty, remove)  # fmt: skip
"""What takes the lock that modules take while they change the host (`host_lock`)."""
