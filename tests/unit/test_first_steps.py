"""The page of first steps: how its commands are read, run and judged."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tools_first_steps", ROOT / "tools/first_steps.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["tools_first_steps"] = module
    spec.loader.exec_module(module)
    return module


tool = load()
PAGE = """# Title
```sh
export A=1
echo "$A"  # 1

```
Words, and what is no command:
```text
rm -rf /
```
## Remove it all
```sh
echo end
```
"""


def test_the_commands_of_a_page_are_its_sh_blocks() -> None:
    assert tool.steps(PAGE) == [
        tool.Step("export A=1", "", "Title"),
        tool.Step('echo "$A"', "1", "Title"),
        tool.Step("echo end", "", "Remove it all"),
    ]


def test_the_page_ends_with_removing_everything_and_stays_short() -> None:
    steps = tool.steps(tool.PAGE.read_text("utf-8"))
    assert steps[-1].section == tool.LAST
    assert len([step for step in steps if "openstack " in step.command]) <= 37
    made = {step.command.split(" create ")[1].split()[0] for step in steps if " create first" in step.command}
    removed = " ".join(step.command for step in steps if step.section == tool.LAST).split()
    assert made - {"first-subnet"} <= set(removed)  # a network takes its subnets with it


@pytest.mark.parametrize(
    ("command", "expected", "wrong"),
    [
        ("echo word", "word", ""),
        ("echo other", "word", "prints no `word`"),
        ("echo word; exit 3", "word", "ends with 3"),
        ("false | cat", "", "ends with 1"),
    ],
)
def test_a_command_is_judged_by_its_code_and_by_what_it_prints(command: str, expected: str, wrong: str) -> None:
    found, output, _variables = tool.run(tool.Step(command, expected, ""), os.environ)
    assert (found, output.strip() in ("", "word", "other")) == (wrong, True)


def test_variables_live_on_in_the_next_command() -> None:
    _wrong, _output, variables = tool.run(tool.Step("address=$(echo 192.0.2.7)", "", ""), dict(os.environ))
    assert variables["address"] == "192.0.2.7"
    assert "code" not in variables
    assert tool.run(tool.Step('echo "[$address]"', "[192.0.2.7]", ""), variables)[0] == ""


def test_a_command_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "TIMEOUT", 0.2)
    found = tool.run(tool.Step("echo said; sleep 2", "", ""), os.environ)
    assert found[:2] == ("not done within 0.2 s", "said\n")


def test_after_a_failure_only_the_last_section_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    page = PAGE.replace("  # 1", "  # 2").replace("export A=1", "export A=1\nfalse\ntouch /nowhere/at/all")
    assert tool.walk(tool.steps(page), os.environ) == 1
    printed = capsys.readouterr().out
    assert "echo end" in printed
    assert "touch" not in printed


def test_a_new_users_shell_has_none_of_the_clients_variables() -> None:
    assert tool.clean_environment({"OS_CLOUD": "other", "HOME": "/root"}) == {"HOME": "/root"}
