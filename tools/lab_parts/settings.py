"""What this machine hands down to the hosts of a lab: package sources, proxies, index settings, trust.

Users' machines reach Debian's archive and the Python index in their own way. A lab host must reach them in the same
way, and none of these addresses may stand in the project. Everything here is read when an image is made.
"""

from __future__ import annotations

import base64
import configparser
import os
import re
import shlex
import ssl
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.lab_parts.layout import LabError

POCKETS = ("", "-updates", "-security")
"""Parts of a Debian release that a host uses; backports and proposed updates are not among them."""

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
DISTRIBUTION_TRUST = Path("/usr/share/ca-certificates/mozilla")
PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
INDEX_KEYS = ("index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "timeout", "retries")
"""Keys of pip's configuration that say where packages come from (pip.pypa.io: Configuration)."""

INDENT = "\n    "
UV_VARIABLES = re.compile(
    r"UV_(DEFAULT_INDEX|INDEX|INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|INSECURE_HOST|HTTP_TIMEOUT|INDEX_\w+)"
)
APT_KEYS = re.compile(
    r"Acquire::(https?::(?!SslCert|SslKey).+|Check-Valid-Until|Check-Date|Retries|ForceIPv[46]|"
    r"AllowInsecureRepositories|Languages.*)",
    re.IGNORECASE,
)
"""Settings of apt that belong to the way to the archive (apt.conf(5))."""


@dataclass(frozen=True)
class Source:
    """A deb822 stanza of binary packages: where from, which suites of the machine's release, which components."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Settings:
    """Everything handed down, as files of a host: path -> text; 0600 where it may hold credentials."""

    files: tuple[tuple[str, str], ...]
    private_files: tuple[tuple[str, str], ...]
    certificates: tuple[str, ...]


def parse_deb822(text: str) -> list[Source]:
    """Return the stanzas of a `.sources` file (sources.list(5)) that are enabled and hold binary packages."""
    found = []
    for stanza in re.split(r"\n\s*\n", re.sub(r"(?m)^#.*\n?", "", text)):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line[:1] in (" ", "\t"):
                fields[key] = f"{fields.get(key, '')}\n{line.strip()}"
            elif ":" in line:
                key, _colon, value = line.partition(":")
                key = key.strip().lower()
                fields[key] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        known = {"types", "uris", "suites", "components", "enabled"}
        # Keys are Debian's own: the machine's key files are not on the host, and Debian's are on every Debian
        options = tuple((name, value) for name, value in fields.items() if name not in known | {"signed-by"})
        found.append(
            Source(
                tuple(fields.get("uris", "").split()),
                tuple(fields.get("suites", "").split()),
                tuple(fields.get("components", "").split()),
                options,
            )
        )
    return found


def parse_list(text: str) -> list[Source]:
    """Return the one-line entries of a `sources.list` (sources.list(5)) that hold binary packages."""
    found = []
    for line in text.splitlines():
        match = re.match(
            r"\s*deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s*(?P<rest>[^#]*)", line
        )
        if not match:
            continue
        pairs = (word.partition("=") for word in (match["options"] or "").split())
        options = tuple((key.lower(), value) for key, _sign, value in pairs if key.lower() in ("trusted",))
        found.append(Source((match["uri"],), (match["suite"],), tuple(match["rest"].split()), options))
    return found


def rewrite_sources(sources: Iterable[Source], codename: str, suite: str) -> list[Source]:
    """Return the sources of Debian's own archive with their suites moved to another release.

    Other archives (a vendor's, backports) are left out: what they serve is made for this machine, not for the hosts.
    """
    pockets = {f"{codename}{pocket}": f"{suite}{pocket}" for pocket in POCKETS}
    # until Debian 10 the security archive's suites had another form; a mirror may still offer it
    pockets[f"{codename}/updates"] = f"{suite}-security"
    moved = []
    for source in sources:
        suites = tuple(pockets[name] for name in source.suites if name in pockets)
        components = tuple(name for name in source.components if name in ("main", "contrib", "non-free-firmware"))
        if suites and "main" in components:
            moved.append(Source(source.uris, suites, components, source.options))
    return list(dict.fromkeys(moved))


def sources_text(sources: Sequence[Source]) -> str:
    """Return a `.sources` file."""
    stanzas = []
    for source in sources:
        lines = [
            "Types: deb",
            f"URIs: {' '.join(source.uris)}",
            f"Suites: {' '.join(source.suites)}",
            f"Components: {' '.join(source.components)}",
            f"Signed-By: {KEYRING}",
            *(f"{name.title()}: {value}" for name, value in source.options),
        ]
        stanzas.append("\n".join(lines) + "\n")
    return "\n".join(stanzas)


def apt_settings(dump: str) -> str:
    """Return from `apt-config dump` what belongs to the way to the archive, as a configuration file."""
    lines = []
    for line in dump.splitlines():
        match = re.match(r'(?P<key>\S+) (?P<value>".*");$', line)
        if match and match["value"] != '""' and APT_KEYS.fullmatch(match["key"].removesuffix("::")):
            lines.append(line)
    return "".join(f"{line}\n" for line in lines)


def pip_settings(files: Iterable[str], environment: Mapping[str, str]) -> dict[str, list[str]]:
    """Return where pip takes packages from; `files` lowest first, [install] of any over [global], PIP_* over all."""
    parsers = []
    for text in files:
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read_string(text)
        except configparser.Error as error:
            raise LabError(f"pip's configuration on this machine cannot be read: {error}") from None
        parsers.append(parser)
    found: dict[str, list[str]] = {}
    for section in ("global", "install"):
        for parser in parsers:
            for key, value in parser.items(section) if parser.has_section(section) else ():
                found[key.replace("_", "-")] = value.split()
    for name, value in environment.items():
        if name.startswith("PIP_") and value:
            found[name.removeprefix("PIP_").lower().replace("_", "-")] = value.split()
    return {key: found[key] for key in INDEX_KEYS if found.get(key)}


def reachable(settings: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the settings without folders of this machine, which a host cannot see."""
    kept = {
        key: [value for value in values if not value.startswith(("/", "file:", "~", "."))]
        for key, values in settings.items()
    }
    return {key: values for key, values in kept.items() if values}


def pip_text(settings: Mapping[str, Sequence[str]]) -> str:
    """Return a `pip.conf`."""
    lines = [
        f"{key} ={' ' if len(values) == 1 else ''}{'' if len(values) == 1 else INDENT}{INDENT.join(values)}"
        for key, values in settings.items()
    ]
    return "\n".join(["[global]", *lines, ""]) if lines else ""


def environment_text(environment: Mapping[str, str], lab_addresses: Sequence[str]) -> str:
    """Return an `/etc/environment` with proxies and uv's settings; the lab's own addresses pass the proxies by."""
    lines = {}
    for name in PROXIES:
        value = environment.get(name) or environment.get(name.upper())
        if value and name != "no_proxy":
            lines[name] = lines[name.upper()] = value
    if lines:
        direct = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
        names = [*(word for word in direct.split(",") if word), "localhost", "127.0.0.1", *lab_addresses]
        lines["no_proxy"] = lines["NO_PROXY"] = ",".join(dict.fromkeys(names))
    lines |= {name: value for name, value in environment.items() if UV_VARIABLES.fullmatch(name) and value}
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted(lines.items()))


def extra_certificates(bundle: str, distribution: Iterable[str]) -> list[str]:
    """Return the certificates (PEM) of this machine's trust that no Debian host has of its own, in their order."""
    own = {ssl.PEM_cert_to_DER_cert(text) for text in distribution}
    found = []
    for match in re.finditer(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----", bundle):
        der = base64.b64decode("".join(match[0].splitlines()[1:-1]))
        if der not in own:
            found.append(match[0] + "\n")
    return list(dict.fromkeys(found))


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def machine_codename() -> str:
    """Return the codename of this machine's Debian release; raises LabError on other systems."""
    release = dict(line.split("=", 1) for line in _read("/etc/os-release").splitlines() if "=" in line)
    name, system = (release.get(key, "").strip('"') for key in ("VERSION_CODENAME", "ID"))
    if system != "debian" or not name:
        raise LabError("a lab needs Debian 12 or 13 on this machine: its hosts take packages from the same archive")
    return name


def machine_sources() -> list[Source]:
    """Return this machine's package sources."""
    found = parse_list(_read("/etc/apt/sources.list"))
    directory = Path("/etc/apt/sources.list.d")
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        found += parse_deb822(_read(path)) if path.suffix == ".sources" else []
        found += parse_list(_read(path)) if path.suffix == ".list" else []
    return found


def caller_home(environment: Mapping[str, str]) -> Path:
    """Return the home of who called, also under sudo."""
    return Path(os.path.expanduser(f"~{environment.get('SUDO_USER', '')}"))


def gather(suite: str, lab_addresses: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Read what this machine hands down to hosts of a Debian suite; raises LabError where there is no source."""
    sources = rewrite_sources(machine_sources(), machine_codename(), suite)
    if not sources:
        raise LabError("/etc/apt: no enabled source of Debian's main archive, from which a host could be made")
    home = caller_home(environment)
    pip_files = [
        *(_read(Path(folder) / "pip/pip.conf") for folder in environment.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")),
        _read("/etc/pip.conf"),
        _read(home / ".pip/pip.conf"),
        _read(home / ".config/pip/pip.conf"),
        _read(environment.get("PIP_CONFIG_FILE", "/nonexistent")),
    ]
    pip = reachable(pip_settings(pip_files, environment))
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    uv = _read(home / ".config/uv/uv.toml") or _read("/etc/uv/uv.toml")
    bundle = _read(
        environment.get("SSL_CERT_FILE") or next((path for path in BUNDLES if Path(path).exists()), BUNDLES[0])
    )
    distribution = [path.read_text(encoding="ascii") for path in sorted(DISTRIBUTION_TRUST.glob("*.crt"))]
    auth = {"/etc/apt/auth.conf": _read("/etc/apt/auth.conf")}
    folder = Path("/etc/apt/auth.conf.d")
    auth |= {str(path): _read(path) for path in sorted(folder.glob("*.conf"))} if folder.is_dir() else {}
    files = {
        "/etc/apt/sources.list.d/debian.sources": sources_text(sources),
        "/etc/apt/apt.conf.d/90handed-down": apt_settings(dump),
    }
    private = {
        "/etc/pip.conf": pip_text(pip),
        "/etc/uv/uv.toml": uv,
        "/etc/environment": environment_text(environment, lab_addresses),
        **auth,
    }
    return Settings(
        tuple((path, text) for path, text in files.items() if text),
        tuple((path, text) for path, text in private.items() if text),
        tuple(extra_certificates(bundle, distribution)),
    )
