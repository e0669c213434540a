"""Environments: when one is built, with which settings of the host, and what its error says."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import uv_environments as uv

ITEM = uv.Environment("nova", "/opt/nova/1", "a==1\n", sys.executable, "/opt/nova/current")
MARKER = {"digest": ITEM.digest, "python": str(Path(sys.executable).resolve())}


@pytest.mark.parametrize(
    ("marker", "exists", "target", "actions"),
    [
        (MARKER, True, "/opt/nova/1", []),
        (MARKER, True, "/opt/nova/0", ["link /opt/nova/current -> /opt/nova/1 (was /opt/nova/0)"]),
        ({}, False, "", ["build environment /opt/nova/1", "link /opt/nova/current -> /opt/nova/1"]),
        ({}, True, "/opt/nova/1", ["build environment /opt/nova/1 again, because an earlier build was not finished"]),
        (
            {**MARKER, "python": "/usr/bin/python3.99"},
            True,
            "/opt/nova/1",
            [
                "build environment /opt/nova/1 again, because it was built for python3.99, and the host's interpreter "
                f"is {Path(MARKER['python']).name}"
            ],
        ),
    ],
)
def test_only_what_is_missing_is_built(marker: dict[str, str], exists: bool, target: str, actions: list[str]) -> None:
    assert uv.decide(ITEM, marker, exists, target).actions == actions


def test_an_environment_that_services_run_from_is_not_built_from_another_lock() -> None:
    with pytest.raises(uv.BuildError, match="another lock"):
        uv.decide(ITEM, {**MARKER, "digest": "other"}, True, "")


@pytest.mark.parametrize(
    ("pip", "environment", "toml", "process", "expected"),
    [
        ("", "", "", {"HOME": "/x"}, {}),
        (
            "[global]\nindex-url = https://i/simple\nextra-index-url =\n  https://a\n  https://b\ncert = /ca\n",
            "",
            "",
            {},
            {"UV_DEFAULT_INDEX": "https://i/simple", "UV_INDEX": "https://a https://b", "SSL_CERT_FILE": "/ca"},
        ),
        (
            "[global]\nindex_url = https://i\n[install]\nindex-url = https://j\n",
            "",
            "",
            {},
            {"UV_DEFAULT_INDEX": "https://j"},
        ),
        ("[global]\nindex-url = https://i\n", "PIP_INDEX_URL='https://e'\n", "", {}, {"UV_DEFAULT_INDEX": "https://e"}),
        (
            "[global]\nindex-url = https://i\n",
            "export UV_DEFAULT_INDEX=https://u\n",
            "",
            {},
            {"UV_DEFAULT_INDEX": "https://u"},
        ),
        ("[global]\nindex-url = https://i\n", "", 'index-url = "https://t"\n', {}, {}),
        ("[global]\nindex-url = https://i\n", "", '[pip]\nindex-url = "https://t"\n', {}, {}),
        (
            "[global]\nfind-links = /w /v\nno-index = yes\ntrusted-host = m\nproxy = http://p\n",
            "",
            "",
            {},
            {"UV_FIND_LINKS": "/w,/v", "UV_NO_INDEX": "1", "UV_INSECURE_HOST": "m", "ALL_PROXY": "http://p"},
        ),
        ("", "https_proxy=http://p\n# UV_X=1\n", "", {"https_proxy": "http://q"}, {"https_proxy": "http://q"}),
    ],
)
def test_the_hosts_own_index_settings_hold(
    pip: str, environment: str, toml: str, process: dict[str, str], expected: dict[str, str]
) -> None:
    assert uv.uv_variables(pip, environment, toml, process) == expected


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("error: invalid peer certificate: UnknownIssuer", "trust store"),
        ("Failed to build `libvirt-python==12`", "headers"),
        ("Hash mismatch for a==1", "new lock"),
        ("No space left on device", "free space"),
        ("dns error: failed to lookup", "proxy"),
        ("something else", "correct the cause"),
    ],
)
def test_an_error_names_the_next_step(output: str, words: str) -> None:
    assert words in uv.advice(output)


def test_a_failed_build_names_the_environment_and_shows_the_end_of_the_output(tmp_path: Path) -> None:
    fake = tmp_path / "uv"
    fake.write_text("#!/bin/sh\nfor i in $(seq 50); do echo line $i; done\nexit 2\n")
    fake.chmod(0o755)
    item = uv.Environment("nova", str(tmp_path / "env"), "", sys.executable)
    with pytest.raises(uv.BuildError) as caught:
        uv.build(uv.decide(item, {}, False, ""), str(fake), {}, [])
    text = str(caught.value)
    assert text.startswith(f"nova: `venv --no-project` for {item.path} exits with 2:")
    assert "line 50" in text
    assert "line 30\n" not in text
    assert not uv.marker_of(item)


def test_a_build_begins_anew_and_uses_hashes(tmp_path: Path) -> None:
    fake = tmp_path / "uv"
    log = tmp_path / "log"
    make = '[ "$1" = venv ] && mkdir -p "$6/bin" && touch "$6/bin/python"'
    fake.write_text(f'#!/bin/sh\necho "$@" >> {log}\n{make}\nexit 0\n')
    fake.chmod(0o755)
    item = uv.Environment("nova", str(tmp_path / "env"), "a==1\n", sys.executable)
    (tmp_path / "env").mkdir()
    (tmp_path / "env/left").touch()
    uv.build(uv.decide(item, {}, True, ""), str(fake), {}, ["--no-index"])
    assert not (tmp_path / "env/left").exists()
    assert (tmp_path / "env/requirements.lock").read_text() == "a==1\n"
    install = log.read_text().splitlines()[1]
    assert "--require-hashes" in install
    assert "--no-index" in install
    assert not uv.marker_of(item), "the marker is written last, by the caller"
    uv.finish(item, 1.0)
    assert uv.decide(item, uv.marker_of(item), True, "").actions == []


def test_files_that_environments_share_are_compiled_once() -> None:
    same = {"/a/x.py": 1, "/b/x.py": 1, "/b/y.py": 2}
    assert uv.share_out(same, same.__getitem__) == {"/a/x.py": ["/b/x.py"], "/b/y.py": []}


def test_bytecode_of_a_shared_file_serves_every_environment(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a/tests").mkdir()
    (tmp_path / "a/tests/t.py").touch()
    (tmp_path / "a/one.py").write_text("def name():\n    return __file__\n")
    (tmp_path / "a/broken.py").write_text("(")
    (tmp_path / "b/one.py").hardlink_to(tmp_path / "a/one.py")
    groups = uv.share_out([*uv.sources(str(tmp_path / "a")), *uv.sources(str(tmp_path / "b"))])
    command = [sys.executable, "-I", "-c", uv.COMPILE]
    subprocess.run(command, input=json.dumps(groups), text=True, check=True, capture_output=True)
    compiled = list(tmp_path.rglob("*.pyc"))
    assert sorted(path.relative_to(tmp_path).parts[0] for path in compiled) == ["a", "b"], "tests are left out"
    assert len({path.stat().st_ino for path in compiled}) == 1
    check = "import sys; sys.path.insert(0, sys.argv[1]); import one; print(one.name())"
    command = [sys.executable, "-v", "-c", check, str(tmp_path / "b")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path}/b/one.py\n"
    assert f"# code object from '{tmp_path}/b/__pycache__/" in done.stderr, "the interpreter takes the shared bytecode"


def test_a_link_that_is_no_link_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "current").mkdir()
    with pytest.raises(uv.BuildError, match="is not a link"):
        uv.link_target(str(tmp_path / "current"))


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> uv.Environment:
    """Return an environment on a host whose system's Python has two bindings."""
    packages = tmp_path / "dist-packages"
    for name in ("rbd.cpython-313-x86_64-linux-gnu.so", "rados.cpython-313-x86_64-linux-gnu.so", "rbd.egg-info"):
        packages.mkdir(exist_ok=True)
        (packages / name).touch()
    (packages / "rtslib_fb").mkdir()
    site = tmp_path / "env/lib/python3.13/site-packages"
    site.mkdir(parents=True)
    (site / "nova").mkdir()
    monkeypatch.setattr(uv, "SYSTEM_MODULES", (str(packages),))
    return uv.Environment("nova", str(tmp_path / "env"), "a==1\n", sys.executable, modules=("rbd", "rtslib_fb"))


def test_an_environment_sees_the_modules_that_it_names_alone(system: uv.Environment) -> None:
    site = Path(system.path) / "lib/python3.13/site-packages"
    uv.link_modules(system)
    assert uv.seen_modules(system.path) == ["rbd", "rtslib_fb"]
    assert {one.name for one in site.iterdir()} == {"nova", "rbd.cpython-313-x86_64-linux-gnu.so", "rtslib_fb"}
    other = dataclasses.replace(system, modules=("rados",))
    uv.link_modules(other)
    assert uv.seen_modules(system.path) == ["rados"]
    assert (site / "nova").is_dir()


def test_a_module_that_is_not_there_is_named(system: uv.Environment) -> None:
    with pytest.raises(uv.BuildError, match="the system's Python has no module cephfs"):
        uv.link_modules(dataclasses.replace(system, modules=("cephfs",)))


def test_a_change_of_modules_builds_nothing_anew(system: uv.Environment) -> None:
    marker = {"digest": system.digest, "python": str(Path(sys.executable).resolve())}
    assert uv.decide(system, marker, True, "", ["rbd", "rtslib_fb"]).actions == []
    found = uv.decide(system, marker, True, "", ["rados"])
    assert not found.build
    assert found.actions == [f"let {system.path} see the system's modules: rbd, rtslib_fb"]
    # A new environment sees none, whatever an unfinished one did.
    assert uv.decide(system, {}, True, "", ["rbd", "rtslib_fb"]).modules == ("rbd", "rtslib_fb")
