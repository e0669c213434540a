"""Prints what a service of this environment is operated by, as JSON: options, programs, applications, upgrade checks.

Runs with the Python of a service's environment, which knows nothing of Brume; `tools/schemas.py` calls it. Options come
from the entry points `oslo.config.opts` (docs.openstack.org/oslo.config: oslo-config-generator, Defining Option
Discovery Entry Points), and from what is registered only at run time: the log-in options of keystoneauth and the
sections of privsep contexts. All else is of the one distribution that is named: its programs, the modules of its `wsgi`
package that hold an application, and the checks of its status command (docs.openstack.org/oslo.upgradecheck).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

TYPES = {
    "Boolean": "boolean",
    "Port": "port",
    "Integer": "integer",
    "Float": "float",
    "List": "list",
    "Dict": "dict",
    "IPAddress": "ipaddress",
    "HostDomain": "hostdomain",
    "HostAddress": "hostaddress",
    "Hostname": "hostname",
    "URI": "uri",
    "Range": "range",
    "String": "string",
    "bool": "boolean",
    "int": "integer",
    "float": "float",
    "str": "string",
}
"""Classes of oslo_config.types, and Python's own that keystoneauth uses, by the schema's names."""

AUTH_PLUGINS = ("password", "v3password", "v3applicationcredential")
"""keystoneauth's ways to log in whose options a section with `auth_type` may hold."""

NAMED_SECTIONS = (
    ("DEFAULT", "enabled_backends", "glance_store", ("os_glance_staging_store", "os_glance_tasks_store")),
    ("DEFAULT", "enabled_backends", "backend_defaults", ()),
)
"""Sections named by an option: its section and name, the section whose options they hold, and names that the service
reserves itself (docs.openstack.org: Glance, Multi Store Support; Cinder, Multiple-Storage Back Ends)."""


def described(kind: Any) -> dict[str, Any]:
    """Return the schema of an oslo.config type."""
    classes = kind.__mro__ if isinstance(kind, type) else type(kind).__mro__
    result: dict[str, Any] = {"type": next((TYPES[one.__name__] for one in classes if one.__name__ in TYPES), "any")}
    if getattr(kind, "choices", None):
        result["choices"] = list(kind.choices)
        if getattr(kind, "ignore_case", False):
            result["ignore_case"] = True
    regex = getattr(kind, "regex", None)
    if regex is not None and regex.flags == re.UNICODE:
        result["regex"] = regex.pattern
    for bound in ("min", "max"):
        if getattr(kind, bound, None) is not None:
            result[bound] = getattr(kind, bound)
    if result["type"] in ("list", "dict"):
        items = described(getattr(kind, "item_type", None) or getattr(kind, "value_type", None) or str)
        if items != {"type": "string"}:
            result["items"] = items
        if kind.bounds:
            result["bounds"] = True
        if getattr(kind, "key_value_separator", ":") != ":":
            result["separator"] = kind.key_value_separator
    return result


def option(found: Any) -> dict[str, Any]:
    """Return the schema of an option."""
    result = described(found.type)
    if found.multi:
        result = {"type": "multi"} | ({} if result == {"type": "string"} else {"items": result})
    if found.secret:
        result["secret"] = True
    if found.deprecated_for_removal:
        result["deprecated"] = True
    return result


def section_name(group: Any) -> str:
    """Return a section's name as oslo.config compares it: DEFAULT, else lower case."""
    name = str(getattr(group, "name", group) or "DEFAULT")
    return name if name == "DEFAULT" else name.lower()


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return what both of two schemas of an option allow; two services of one environment may differ."""
    if one["type"] != other["type"]:
        return {"type": "any"}
    return {key: value for key, value in one.items() if other.get(key) == value}


def entries() -> Iterator[tuple[str, Any]]:
    """Yield section and option of every namespace. Raises SystemExit, with the name, when one cannot be loaded."""
    for point in sorted(importlib.metadata.entry_points(group="oslo.config.opts")):
        try:
            groups = point.load()()
        except Exception as error:
            raise SystemExit(f"namespace {point.name}: {type(error).__name__}: {error}") from error
        for group, options in groups:
            for found in options:
                yield section_name(group), found


def login_options() -> Iterable[Any]:
    """Return keystoneauth's options of sections that log in."""
    loading = importlib.import_module("keystoneauth1.loading")
    yield from loading.get_auth_common_conf_options()
    for plugin in AUTH_PLUGINS:
        yield from loading.get_auth_plugin_conf_options(plugin)
    yield from loading.get_session_conf_options()


def privileged_sections(folder: Path) -> set[str]:
    """Return the sections of the privsep contexts that the modules below a folder define."""
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        text = path.read_text("utf-8", errors="replace")
        if "PrivContext(" in text and "tests" not in path.parts:
            names |= set(re.findall(r"""cfg_section\s*=\s*["'](\w+)["']""", text))
    return names


CPUS = 4096
"""Limits that are the machine's number of CPUs (Cinder's backup_workers) are not those of the machine that asks."""


def collect() -> dict[str, Any]:
    """Return options by section and name, and the sections that options name."""
    sections: dict[str, dict[str, dict[str, Any]]] = {}
    renamed: list[tuple[str, str, str, dict[str, Any]]] = []

    def add(section: str, found: Any) -> None:
        if type(found).__name__ in ("_ConfigFileOpt", "_ConfigDirOpt", "SubCommandOpt"):
            return
        known = sections.setdefault(section, {})
        schema = option(found)
        known[found.dest] = merged(known[found.dest], schema) if found.dest in known else schema
        for old in found.deprecated_opts:
            place = section_name(old.group) if old.group else section
            name = (old.name or found.dest).replace("-", "_")
            if (place, name) != (section, found.dest):
                renamed.append((place, name, f"[{section}] {found.dest}", schema))

    for section, found in entries():
        add(section, found)
    # Some list the options of one way to log in alone (Cinder's service_user).
    for section in [name for name, known in sections.items() if {"auth_type", "auth_url"} & known.keys()]:
        for found in login_options():
            if found.dest not in sections[section]:
                add(section, found)
    if "privsep" in sections:
        for section in privileged_sections(Path(sysconfig.get_paths()["purelib"])):
            sections.setdefault(section, dict(sections["privsep"]))
    for section, name, new, schema in renamed:
        sections.setdefault(section, {}).setdefault(name, {**schema, "deprecated": True, "use": new})
    return {"options": sections, "named_sections": list(named_sections(sections))}


def named_sections(sections: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the options that name sections, of those that this environment has."""
    for section, name, model, reserved in NAMED_SECTIONS:
        if model in sections and name in sections.get(section, {}):
            yield {"section": section, "option": name, "model": model, "reserved": list(reserved)}


def programs(distribution: importlib.metadata.Distribution) -> list[str]:
    """Return the names of a distribution's programs."""
    return sorted(path.name for path in distribution.files or () if ".." in path.parts and path.parent.name == "bin")


def applications(distribution: importlib.metadata.Distribution) -> list[str]:
    """Return the WSGI applications of a distribution, as uWSGI's option `module` takes them."""
    found = []
    for path in distribution.files or ():
        inside = path.parts[1:2] == ("wsgi",) and path.suffix == ".py" and path.stem != "__init__"
        if inside and re.search(r"^application\b", path.read_text(), re.MULTILINE):
            found.append(f"{'.'.join(path.with_suffix('').parts)}:application")
    return sorted(found)


def upgrade_checks(distribution: importlib.metadata.Distribution) -> list[str]:
    """Return the names of what a distribution's `<service>-status upgrade check` looks at."""
    found: dict[str, None] = {}
    for point in distribution.entry_points:
        if point.group == "console_scripts" and point.name.endswith("-status"):
            base: Any = importlib.import_module("oslo_upgradecheck.upgradecheck").UpgradeCommands
            classes: list[Any] = [
                one for one in vars(importlib.import_module(point.module)).values() if isinstance(one, type)
            ]
            for one in classes:
                if issubclass(one, base):
                    found |= {str(name): None for name, _check in one._upgrade_checks}
    return list(found)


def main() -> None:
    """Print what the distribution that is named on the command line is operated by."""
    warnings.simplefilter("ignore")
    os.cpu_count = lambda: CPUS
    distribution = importlib.metadata.distribution(sys.argv[1])
    # What does not use oslo.config itself, such as Swift, has its libraries' options in files of another kind.
    uses = any(point.group == "oslo.config.opts" for point in distribution.entry_points)
    found = collect() if uses else {"options": {}, "named_sections": []}
    del sys.argv[1:]  # modules of services read the command line while they are imported
    found |= {"programs": programs(distribution), "applications": applications(distribution)}
    json.dump({**found, "checks": upgrade_checks(distribution)}, sys.stdout)


if __name__ == "__main__":
    main()
