"""The callback `record`: what tasks of a real run said, one line of JSON for each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.brume.cloud.plugins.callback import record

from tools import prediction

ROOT = Path(__file__).resolve().parents[2]

PLAYBOOK = """
- name: One
  hosts: all
  gather_facts: false
  tasks:
    - name: Say one
      speak: {word: one}
    - name: Say more
      speak: {word: "{{ item }}"}
      loop: [two, three]
    - name: Write what nobody may see
      ansible.builtin.copy:
        content: "hunter2\\n"
        dest: "{{ folder }}/i"
        mode: "0600"
      no_log: true
- name: Two
  hosts: all
  gather_facts: false
  tasks:
    - name: Say what was said
      speak: {word: two}
    - name: Fail
      block:
        - name: Say no
          ansible.builtin.fail:
            msg: "no"
      rescue:
        - name: Do nothing
          ansible.builtin.meta: noop
    - name: Skip
      ansible.builtin.fail:
        msg: "no"
      when: false
"""


MODULE = """
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule({"word": {"type": "str"}}, supports_check_mode=True)
word = module.params["word"]
diff = {"before": "", "after": word}
module.exit_json(changed=word != "two", actions=[f"say {word}"], diff=[diff] if word == "one" else diff)
"""


def test_what_tasks_said_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "record"
    (tmp_path / "library").mkdir()
    (tmp_path / "library/speak.py").write_text(MODULE)
    (tmp_path / "site.yml").write_text(PLAYBOOK)
    (tmp_path / "hosts.yml").write_text(
        f"all: {{hosts: {{one: {{ansible_connection: local, ansible_python_interpreter: {sys.executable}}}}}}}\n"
    )
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(tmp_path / "hosts.yml"), "--diff"]
    done = subprocess.run(
        [*command, str(tmp_path / "site.yml"), "--check", "-e", json.dumps({"folder": str(tmp_path)})],
        cwd=ROOT,
        env={**os.environ, "BRUME_RECORD_FILE": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(one["play"], one["task"], one["action"], one["host"], one["changed"]) for one in lines] == [
        ("One", "Say one", "speak", "one", True),
        ("One", "Say more", "speak", "one", True),
        ("One", "Write what nobody may see", "ansible.builtin.copy", "one", True),
        ("Two", "Say what was said", "speak", "one", False),
    ]
    assert [one["actions"] for one in lines] == [["say one"], ["say two", "say three"], [], ["say two"]]
    assert [[diff["after"] for diff in one["diff"]] for one in lines] == [["one"], ["two", "three"], [], ["two"]]
    assert "hunter2" not in path.read_text()
    assert len(prediction.parse(path.read_text())) == 4


def test_nothing_is_kept_unless_a_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, disabled in (("", True), ("/none/record", False)):
        monkeypatch.setenv("BRUME_RECORD_FILE", value)
        assert record.CallbackModule().disabled is disabled
