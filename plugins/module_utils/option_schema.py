"""Checks configuration against the options that a release of a service knows.

A schema is data, made from the lock by `tools/schemas.py`, so that a bare host's `--check` can use it. Values are
judged as the text that the configuration file will hold, by the rules of oslo.config's types
(docs.openstack.org/oslo.config: Option Types): a wrong type is an error, and an unknown option or section a warning,
because drivers bring their own.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Option = Mapping[str, Any]
"""type; where they apply: choices, ignore_case, regex, min, max, items, bounds, separator, secret, deprecated, use."""

BOOLEANS = ("true", "1", "on", "yes", "false", "0", "off", "no")
HOST_NAME_LENGTH = 253
SECRET = "<secret>"  # noqa: S105  # what is shown instead of one
_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_DOMAIN_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_RANGE = re.compile(r"(0|-?[1-9][0-9]*)(?:-(0|-?[1-9][0-9]*))?")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s]+\S*")


@dataclass(frozen=True)
class NamedSections:
    """An option whose values name sections, as Glance's `enabled_backends` does.

    The sections, and those that the service reserves itself, hold the options of the section `model`.
    """

    section: str
    option: str
    model: str
    reserved: tuple[str, ...]


@dataclass(frozen=True)
class Schema:
    """What one service is operated by in one release; sections are lower case but for DEFAULT, as oslo.config has it.

    `programs` are names in the environment's bin, `applications` what uWSGI's option `module` takes, `checks` the names
    of what the status command looks at before an upgrade.
    """

    release: str
    lock: str
    options: Mapping[str, Mapping[str, Option]]
    named: tuple[NamedSections, ...] = ()
    programs: tuple[str, ...] = ()
    applications: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A mistake (`error`) or an oddity (`warning`); `key` is empty for a whole section, `value` never a secret."""

    level: str
    section: str
    key: str
    expected: str
    value: str

    @property
    def text(self) -> str:
        """Return one line for a person."""
        place = f"[{self.section}] {self.key}".rstrip()
        return f"{place}: {f'`{self.value}` is wrong; ' if self.level == 'error' else ''}{self.expected}"


def load(path: str | Path) -> Schema | None:
    """Return a schema from its file, None where there is none. Raises ValueError, naming it, for another content."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        return Schema(
            data["release"],
            data["lock"],
            data["options"],
            tuple(
                NamedSections(one["section"], one["option"], one["model"], tuple(one["reserved"]))
                for one in data["named_sections"]
            ),
            *(tuple(data[key]) for key in ("programs", "applications", "checks")),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: is no option schema ({error!r}); make it again with tools/schemas.py") from error


def is_multi(schema: Schema, section: str, key: str) -> bool:
    """Return whether an option is repeated, one line a value, instead of joined by commas."""
    section, key = _section(section), _key(key)
    places = [section] if section in schema.options else [one.model for one in schema.named]
    return any(schema.options[place].get(key, {}).get("type") == "multi" for place in places)


def check(schema: Schema, tree: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Return what is wrong or odd in a file's sections and keys, in the tree's order; None values are left out.

    Nothing is known of the files of a service that does not use oslo.config.
    """
    findings: list[Finding] = []
    if not schema.options:
        return findings
    models = _models(schema, tree)
    for section, keys in tree.items():
        name = _section(section)
        known = schema.options.get(models.get(name, name))
        if known is None:
            findings.append(Finding("warning", section, "", _unknown("section", name, schema.options), ""))
            continue
        for key, value in keys.items():
            if value is None:
                continue
            option = known.get(_key(key))
            if option is None:
                findings.append(Finding("warning", section, key, _unknown("option", _key(key), known), ""))
                continue
            if option.get("deprecated"):
                remedy = f"use {option['use']}" if "use" in option else "it will be removed"
                findings.append(Finding("warning", section, key, f"deprecated; {remedy}", ""))
            if not _fits(option, value):
                shown = SECRET if option.get("secret") else _text(value)
                findings.append(Finding("error", section, key, f"expected {expected(option)}", shown))
    return findings


def expected(option: Option) -> str:
    """Return what an option takes, in words."""
    kind = option["type"]
    if "choices" in option:
        return "one of " + ", ".join(_text(one) or "(empty)" for one in option["choices"] if one is not None)
    if kind in ("list", "multi", "dict"):
        items = expected(option["items"]) if "items" in option else "string"
        words = {"list": f"list of {items}", "multi": f"one or several of {items}", "dict": f"mapping to {items}"}[kind]
        if kind == "dict" and "separator" in option:
            words += f", as text with `{option['separator']}` between key and value"
        brackets = "[...]" if kind == "list" else "{...}"
        return f"{words}, as text in brackets: {brackets}" if option.get("bounds") else words
    if "regex" in option:
        return f"{kind} like {option['regex']}"
    limits = [f"{word} {option[bound]}" for word, bound in (("from", "min"), ("to", "max")) if bound in option]
    return " ".join([kind, *limits])


def _section(name: str) -> str:
    return name if name == "DEFAULT" else name.lower()


def _key(name: str) -> str:
    return name.replace("-", "_")


def _unknown(kind: str, name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"unknown {kind}" + (f"; is `{near[0]}` meant?" if near else "")


def _models(schema: Schema, tree: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the sections that options name, with the section whose options they hold."""
    result: dict[str, str] = {}
    for one in schema.named:
        value = next(
            (
                value
                for section, keys in tree.items()
                if _section(section) == one.section
                for key, value in keys.items()
                if _key(key) == one.option
            ),
            None,
        )
        names = [pair.partition(":")[0].strip() for pair in ("" if value is None else _text(value)).split(",")]
        result.update({_section(name): one.model for name in (*names, *one.reserved) if name})
    return result


def _text(value: Any) -> str:
    """Return a value as the configuration file holds it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return ",".join(f"{key}:{_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ",".join(_text(item) for item in value)
    return "" if value is None else str(value).strip()


def _fits(option: Option, value: Any) -> bool:
    """Return whether an option takes a value from YAML."""
    kind = option["type"]
    if kind == "multi":
        items = option.get("items", {"type": "string"})
        return all(_fits(items, one) for one in (value if isinstance(value, list | tuple) else [value]))
    if isinstance(value, Mapping) and kind not in ("dict", "list", "any"):
        return False
    text = _text(value)
    # `$name` refers to another option, whose value only the service knows.
    return "$" in text or _text_fits(option, text)


def _text_fits(option: Option, text: str) -> bool:
    kind = option["type"]
    if kind in ("list", "dict"):
        return _items_fit(option, text)
    if "choices" in option and kind == "string":
        known = [_text(one) for one in option["choices"] if one is not None]
        return text in known or bool(option.get("ignore_case") and text.lower() in [one.lower() for one in known])
    return _RULES[kind](option, text)


def _items_fit(option: Option, text: str) -> bool:
    """Return whether a text is a list or mapping. A comma may belong to an item, as oslo.config has it."""
    opening, closing = "[]" if option["type"] == "list" else "{}"
    if option.get("bounds"):
        if not (text.startswith(opening) and text.endswith(closing)):
            return False
        text = text[1:-1]
    items = option.get("items", {"type": "string"})
    pending: str | None = None
    for part in text.rstrip(",").split(",") if text.strip(", ") else []:
        pending = part if pending is None else f"{pending},{part}"
        item, found = pending.strip(), True
        if option["type"] == "dict":
            key, found_separator, item = item.partition(option.get("separator", ":"))
            found, item = bool(found_separator and key.strip()), item.strip()
        if found and _text_fits(items, item):
            pending = None
    return pending is None


def _number(option: Option, text: str) -> bool:
    if not text:
        return True
    try:
        number = float(text) if option["type"] == "float" else int(text)
    except ValueError:
        return False
    if "choices" in option:
        return bool(number in option["choices"])
    return bool(option.get("min", number) <= number <= option.get("max", number))


def _address(_option: Option, text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _name_of(label: re.Pattern[str]) -> Callable[[Option, str], bool]:
    def rule(_option: Option, text: str) -> bool:
        labels = text.removesuffix(".").split(".")
        named = re.search("[A-Za-z-]", labels[-1]) is not None
        return len(text) <= HOST_NAME_LENGTH and named and all(label.fullmatch(one) for one in labels)

    return rule


def _host(label: re.Pattern[str]) -> Callable[[Option, str], bool]:
    return lambda option, text: _address(option, text) or _name_of(label)(option, text)


_RULES: Mapping[str, Callable[[Option, str], bool]] = {
    "any": lambda _option, _text: True,
    "string": lambda option, text: re.search(option.get("regex", ""), text) is not None,
    "boolean": lambda _option, text: text.lower() in BOOLEANS,
    "integer": _number,
    "port": _number,
    "float": _number,
    "ipaddress": _address,
    "hostname": _name_of(_LABEL),
    "hostaddress": _host(_LABEL),
    "hostdomain": _host(_DOMAIN_LABEL),
    "uri": lambda _option, text: _URI.fullmatch(text) is not None,
    "range": lambda _option, text: _RANGE.fullmatch(text) is not None,
}
