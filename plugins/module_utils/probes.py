"""What the machine that verifies a cloud tries from outside: ICMP echo, TCP, SSH, and VNC through a WebSocket."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import shutil
import socket
import ssl
import struct
import subprocess
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

RFB_GREETING = b"RFB "
"""The first bytes a VNC server sends (RFC 6143, section 7.1.1)."""

_WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_CLOSE, _BINARY, _TEXT = 0x8, 0x2, 0x1


class ProbeError(Exception):
    """The probe could not be made, or was answered with something else than expected."""


def icmp_checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ping(address: str, timeout: float = 1.0) -> bool:
    """Tell whether an IPv4 address answers one ICMP echo within `timeout` seconds.

    Uses a socket where the kernel allows one, else the program `ping`. Raises ProbeError where neither can be had.
    """
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            opened = socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP)
        except PermissionError:
            continue
        with opened:
            return _echo(opened, address, timeout, kind == socket.SOCK_RAW)
    if shutil.which("ping") is None:
        raise ProbeError("cannot send ICMP: run as root, or install the program `ping`")
    argv = ["ping", "-n", "-c", "1", "-W", str(max(1, round(timeout))), address]
    return subprocess.run(argv, capture_output=True, check=False, timeout=timeout + 5).returncode == 0


def _echo(opened: socket.socket, address: str, timeout: float, raw: bool) -> bool:
    payload = secrets.token_bytes(16)
    identifier = os.getpid() & 0xFFFF
    unsigned = struct.pack("!BBHHH", 8, 0, 0, identifier, 1) + payload
    packet = struct.pack("!BBHHH", 8, 0, icmp_checksum(unsigned), identifier, 1) + payload
    end = time.monotonic() + timeout
    try:
        opened.sendto(packet, (address, 0))
        while (left := end - time.monotonic()) > 0:
            opened.settimeout(left)
            data, sender = opened.recvfrom(2048)
            message = data[(data[0] & 0x0F) * 4 :] if raw else data
            if sender[0] == address and message[0] == 0 and message[8:] == payload:
                return True
    except OSError:  # a timeout, or no route: no answer either way
        return False
    return False


def connects(address: str, port: int, timeout: float = 1.0) -> bool:
    """Tell whether a TCP connection can be opened within `timeout` seconds."""
    try:
        with socket.create_connection((address, port), timeout=timeout):
            return True
    except OSError:
        return False


def make_key(directory: Path, comment: str) -> tuple[Path, str]:
    """Make an SSH key pair in a directory; return the private key's path and the public key.

    The private key is readable by the caller alone. Raises ProbeError.
    """
    path = directory / "id_ed25519"
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError as error:
        raise ProbeError("the program `ssh-keygen` is missing: install openssh-client") from error
    if done.returncode != 0:
        raise ProbeError(f"ssh-keygen: {done.stderr.strip()}")
    return path, path.with_suffix(".pub").read_text(encoding="utf-8").strip()


def ssh(address: str, user: str, key: Path, command: str, timeout: float = 15.0) -> str:
    """Return what a command printed over SSH. Raises ProbeError with the client's own words within `timeout` seconds.

    The host key is not checked: the guest is a minute old and nothing secret is sent to it.
    """
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": "5",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "LogLevel": "ERROR",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
    }
    argv = ["ssh", "-F", "/dev/null", "-i", str(key)]
    argv += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    argv += [f"{user}@{address}", command]
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise ProbeError("the program `ssh` is missing: install openssh-client") from error
    except subprocess.TimeoutExpired as error:
        raise ProbeError(f"ssh: no answer within {timeout:.0f} s") from error
    if done.returncode != 0:
        words = " ".join(done.stderr.split()) or "no words"
        raise ProbeError(f"ssh: exit status {done.returncode}: {words}")
    return done.stdout


def websocket_target(url: str) -> tuple[str, str, int, str]:
    """Return scheme, host, port and request target of the WebSocket that a console's page opens.

    The page gets the target as its parameter `path` (`?path=%3Ftoken%3DUUID`); `token` alone is understood too.
    Raises ProbeError for a URL without either.
    """
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    if "path" in query:
        target = "/" + query["path"][0].lstrip("/")
    elif "token" in query:
        target = f"/?token={query['token'][0]}"
    else:
        raise ProbeError("the console's URL has neither `path` nor `token`")
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80), target


def vnc_greeting(url: str, verify: bool | str, timeout: float = 15.0) -> str:
    """Return the version that the VNC server behind a console's URL greets with, such as `RFB 003.008`.

    `verify`: a file of authorities, or whether to check the certificate at all, as in `requests`.
    Raises ProbeError, without the URL's token, unless the upgrade is answered with 101 and the server greets.
    """
    scheme, host, port, target = websocket_target(url)
    location = f"[{host}]" if ":" in host else host
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    # The proxy refuses an Origin other than its own address, and a browser always sends one.
    request = "\r\n".join(
        (
            f"GET {target} HTTP/1.1",
            f"Host: {location}:{port}",
            f"Origin: {scheme}://{location}:{port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: binary",
            "",
            "",
        )
    )
    try:
        with socket.create_connection((host, port), timeout=timeout) as plain:
            stream = _context(verify).wrap_socket(plain, server_hostname=host) if scheme == "https" else plain
            with stream:
                stream.settimeout(timeout)
                stream.sendall(request.encode())
                rest = _upgraded(stream, key)
                return _greeting(stream, rest)
    except OSError as error:
        raise ProbeError(f"{host}:{port}: {error}") from error


def _context(verify: bool | str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _upgraded(stream: socket.socket, key: str) -> bytes:
    """Read the answer to the upgrade; return the bytes after it."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = stream.recv(4096)
        if not more:
            raise ProbeError(f"the proxy hung up after {len(data)} bytes of its answer")
        data += more
    head, rest = data.split(b"\r\n\r\n", 1)
    lines = head.decode("latin-1").split("\r\n")
    status = lines[0].split(" ", 2)
    if len(status) < 2 or status[1] != "101":  # noqa: PLR2004
        raise ProbeError(f"the upgrade was answered with `{lines[0]}`, not with 101")
    fields = (line.partition(":") for line in lines[1:])
    headers = {name.strip().lower(): value.strip() for name, _colon, value in fields}
    expected = base64.b64encode(hashlib.sha1((key + _WEBSOCKET_GUID).encode(), usedforsecurity=False).digest()).decode()
    if headers.get("sec-websocket-accept") != expected:
        raise ProbeError("the upgrade was answered with a wrong Sec-WebSocket-Accept")
    return rest


def _greeting(stream: socket.socket, data: bytes) -> str:
    """Read frames until 12 bytes of payload are there, which a VNC server begins with."""
    payload = b""
    while True:
        frame = first_frame(data)
        if frame is None:
            more = stream.recv(4096)
            if not more:
                raise ProbeError("the proxy hung up before the VNC server greeted")
            data += more
            continue
        opcode, content, data = frame
        if opcode == _CLOSE:
            raise ProbeError("the proxy closed the WebSocket before the VNC server greeted")
        if opcode in (0, _BINARY, _TEXT):
            payload += content
        if len(payload) >= 12:  # noqa: PLR2004  # "RFB xxx.yyy\n"
            if not payload.startswith(RFB_GREETING):
                raise ProbeError("what came through the WebSocket is no greeting of a VNC server")
            return payload[:11].decode("ascii", "replace")


def first_frame(data: bytes) -> tuple[int, bytes, bytes] | None:
    """Return opcode and payload of the first WebSocket frame, and the bytes after it; None while it is not whole.

    RFC 6455, section 5.2; a server's frames are not masked.
    """
    if len(data) < 2:  # noqa: PLR2004
        return None
    length, start = data[1] & 0x7F, 2
    extended = {126: ("!H", 2), 127: ("!Q", 8)}.get(length)
    if extended is not None:
        form, size = extended
        if len(data) < start + size:
            return None
        length, start = struct.unpack(form, data[start : start + size])[0], start + size
    if len(data) < start + length:
        return None
    return data[0] & 0x0F, data[start : start + length], data[start + length :]
