"""Locks: what their digest depends on, what their rules are, and that the repository's own keep them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from ansible_collections.brume.cloud.plugins.module_utils.locks import (
    LockError,
    Requirement,
    lock_digest,
    lock_without,
    parse_lock,
)

ROOT = Path(__file__).resolve().parent.parent.parent
LOCKS = sorted(ROOT.glob("roles/*/files/locks/*.txt"))
ONE, TWO = "a" * 64, "b" * 64
LOCK = f"""\
# made by hand
Oslo.Config==10.3.0 \\
    --hash=sha256:{ONE} \\
    --hash=sha256:{TWO}
tzdata==2025.3 ; sys_platform == 'win32' \\
    --hash=sha256:{TWO}
"""


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tools_locks", ROOT / "tools/locks.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["tools_locks"] = module
    spec.loader.exec_module(module)
    return module


def test_a_lock_is_read() -> None:
    assert parse_lock(LOCK, "x.txt") == (
        Requirement("oslo-config", "10.3.0", "", (f"sha256:{ONE}", f"sha256:{TWO}")),
        Requirement("tzdata", "2025.3", "sys_platform == 'win32'", (f"sha256:{TWO}",)),
    )


def test_comments_and_margins_do_not_change_the_digest() -> None:
    assert lock_digest("# another\n\n" + LOCK.replace("    --", "  --") + "\n# end\n") == lock_digest(LOCK)
    assert lock_digest(LOCK.replace("    # via", "")) == lock_digest(LOCK)


@pytest.mark.parametrize(("old", "new"), [("10.3.0", "10.3.1"), (ONE, "c" * 64), ("'win32'", "'linux'")])
def test_versions_hashes_and_markers_change_the_digest(old: str, new: str) -> None:
    assert lock_digest(LOCK.replace(old, new)) != lock_digest(LOCK)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"a>=1 --hash=sha256:{ONE}\n", "x.txt:1: a is not pinned"),
        (f"a===1 --hash=sha256:{ONE}\n", "x.txt:1: a is not pinned"),
        (f"a==1.* --hash=sha256:{ONE}\n", "x.txt:1: a is not pinned"),
        ("# head\na==1\n", "x.txt:2: a has no hash"),
        ("a==1 --hash=md5:00\n", "x.txt:1: a has something else than sha256"),
        (f"a==1 --hash=sha256:{ONE} --hash=sha256:12\n", "x.txt:1: a has something else than sha256"),
        (f"--index-url https://index.example.org\na==1 --hash=sha256:{ONE}\n", "x.txt:1: `--index-url` has no place"),
        ("-e .\n", "x.txt:1: `-e` has no place"),
        (f"a @ https://files.example.org/a.whl --hash=sha256:{ONE}\n", "x.txt:1: `a` is no package with a version"),
        (f"a==1 --hash=sha256:{ONE}\n\nA==2 \\\n --hash=sha256:{TWO}\n", "x.txt:3: a stands here a second time"),
        ("# nothing\n", "x.txt:1: holds no package"),
    ],
)
def test_a_mistake_names_file_line_and_remedy(text: str, message: str) -> None:
    with pytest.raises(LockError) as error:
        parse_lock(text, "x.txt")
    assert str(error.value).startswith(message)
    assert any(remedy in str(error.value) for remedy in ("make", "remove", "pin it"))


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(LockError) as error:
        parse_lock(f"a==1\nb>=2 --hash=sha256:{ONE}\n", "x.txt")
    assert [line.split(":")[1] for line in str(error.value).splitlines()] == ["1", "2"]


def test_a_lock_without_a_package_keeps_all_others() -> None:
    text = "".join(
        f"{name}==1.0 \\\n    --hash=sha256:{'a' * 64}  # needed by something\n"
        for name in ("nova", "libvirt_python", "pyuwsgi")
    )
    kept = parse_lock(lock_without(text, ("libvirt-python",)), "lock")
    assert kept == tuple(one for one in parse_lock(text, "lock") if one.name != "libvirt-python")
    assert len(kept) == 2
    assert lock_without(text, ()) == text


def test_a_package_may_have_a_version_for_each_marker() -> None:
    text = "".join(
        f"a=={n} ; python_full_version {test} '3.12' --hash=sha256:{ONE}\n" for n, test in ((1, "<"), (2, ">="))
    )
    assert [one.version for one in parse_lock(text, "x.txt")] == ["1", "2"]


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: f"{path.parts[-4]}-{path.stem}")
def test_the_locks_of_the_repository_keep_the_rules(path: Path) -> None:
    text = path.read_text("utf-8")
    found = {one.name: one for one in parse_lock(text, path.name)}
    packages = tool().described(path.parts[-4], path.stem)["packages"]
    series = yaml.safe_load((path.parent / "series.yml").read_text("utf-8"))
    assert {name.lower() for name in packages} <= set(found)
    assert f"{found[packages[0]].version}.".startswith(f"{series[path.stem]}.")
    assert "://" not in text


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: f"{path.parts[-4]}-{path.stem}")
def test_who_plugs_ports_has_what_that_imports(path: Path) -> None:
    """The wheels of os-vif 5.2.0 and Neutron 29.0.0 use pyroute2 and do not require it."""
    found = {one.name for one in parse_lock(path.read_text("utf-8"), path.name)}
    assert ("os-vif" in found) <= ("pyroute2" in found)


def test_there_are_locks() -> None:
    assert LOCKS


def test_the_service_is_bounded_to_its_release() -> None:
    made = tool().requirements(["keystone", "pymysql"], {"2026.1": 29}, "2026.1", "series.yml")
    assert made == ("keystone>=29,<30", "pymysql")
    assert tool().requirements(["swift"], {"2026.1": "2.37"}, "2026.1", "series.yml") == ("swift>=2.37,<2.38",)


def test_a_release_without_a_major_version_is_refused() -> None:
    module = tool()
    with pytest.raises(module.ToolError, match=r'^series.yml: .* add `"2026.2": <number>`'):
        module.requirements(["keystone"], {"2026.1": 29}, "2026.2", "series.yml")
    with pytest.raises(module.ToolError, match="says no version"):
        module.requirements(["swift"], {"2026.2": 2.4}, "2026.2", "series.yml")


def test_constraints_on_the_service_itself_are_dropped() -> None:
    text = "# list\nGlance_Store===5.4.0\nglance===31.0.0;python_version>='3.10'\nglance===30.0.0\n"
    assert tool().without(text, "glance") == "# list\nGlance_Store===5.4.0\n"
    assert "glance===31" in tool().without(text, "glance-store")
    assert "Store" not in tool().without(text, "glance-store")


def test_a_package_is_pinned_for_the_releases_that_say_so() -> None:
    wanted = tool().wanted
    old, new = wanted("nova", "2025.1"), wanted("nova", "2026.1")
    assert old is not None and new is not None
    assert (old.pinned, new.pinned) == (("libvirt-python",), ())
    assert "libvirt-python==12.0.0" in old.requirements and "libvirt-python" in new.requirements
