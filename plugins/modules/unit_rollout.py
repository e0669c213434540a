#!/usr/bin/python
"""systemd units of a host in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: unit_rollout
short_description: Writes, enables and (re)starts all planned units of a host, and waits until they are well
description:
  - Compares the digest of each unit's file, of the files it reads and of its revision with the digest that was recorded
    when the unit last started well. Only a unit that differs or does not run is touched, so no run loses a restart.
  - Units are started side by side; one that names others in O(units[].after) waits until these are well.
  - A service whose socket starts, or starts anew, does so too, since it holds the old socket. Name the socket in its
    O(units[].after).
  - One C(systemctl show) reads all units; when nothing differs, this is the only process.
  - When units fail, those that are well are recorded all the same.
options:
  units:
    description: The units of this host.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: 'Name with suffix, for example C(nova-api.service).', type: str, required: true}
      content:
        description: The whole unit file, written to C(/etc/systemd/system). Left out for a unit that a package brings.
        type: str
      dropin:
        description: Text of C(brume.conf) in the unit's drop-in directory, for a unit that a package brings.
        type: str
      state:
        description:
          - V(absent) stops, disables and removes the unit, its drop-in, O(units[].files) and its record, when all other
            units of the call are well. A unit that has neither a record nor a file of Brume's is another's, and stays.
          - V(idle) stops and disables a unit whose package is there for something else.
        type: str
        choices: [present, absent, idle]
        default: present
      files: {description: Absolute paths of the files the unit reads., type: list, elements: str, default: []}
      reload_files:
        description: Those of O(units[].files) of which a reload takes up a change, whatever O(units[].on_change) says.
        type: list
        elements: str
        default: []
      revision: {description: 'What else belongs to the digest, such as the release''s digest.', type: str, default: ''}
      on_change:
        description:
          - What to do with a running unit that differs. V(reload) holds when only files differ; another unit file or
            revision needs a restart. V(none) leaves it running and records the digest.
        type: str
        choices: [restart, reload, none]
        default: restart
      enabled: {description: Whether it starts with the host., type: bool, default: true}
      after: {description: Units of this call that must be well first., type: list, elements: str, default: []}
      health:
        description:
          - When the unit counts as well, polled while it is active; one key.
          - C(http) is a URL that must answer with a status below 500 (C(ca_file) beside it for https).
          - C(tcp) is C(host) and C(port) that must accept a connection.
          - C(queue) is C(name), C(config_file) and C(python); the queue must exist at the broker that C(transport_url)
            in the file names. The interpreter must have the C(amqp) library.
          - C(command) is a command that must exit with 0.
          - With none of them, it must stay active for 2 seconds without a restart.
        type: dict
        default: {}
      timeout: {description: Seconds from the start until it must be well., type: float, default: 120}
      waits_for:
        description: C(host) and C(port), also of another host, that must accept a connection before the start.
        type: dict
        default: {}
      first:
        description: Whether it is settled before all others, and in V(start) even if it runs.
        type: bool
        default: false
      versions:
        description:
          - What a unit that keeps other services' versions from its start must have been started with, as recorded.
            Left out, it does not matter.
        type: str
        default: ''
      broker:
        description:
          - The broker that the unit speaks to, as M(brume.cloud.message_broker) tells it. A unit that was recorded with
            another one, or with none, starts anew. Left out, it does not matter, and what was recorded stays.
        type: str
        default: ''
      start_environment:
        description: Variables of systemd's own environment while the unit starts, and only then (systemctl(1)).
        type: dict
        default: {}
  stage:
    description:
      - V(start) touches only what does not run, V(change) comes after it, for what runs on something old. With neither,
        both are done. V(well) leaves alone what runs, starts the rest, and waits until all is well. V(reconnect) starts
        anew what has started with another broker, and nothing else; units and their records stay as they are otherwise.
    type: str
    choices: ['', start, change, well, reconnect]
    default: ''
  planned_digests:
    description:
      - In check mode, what M(brume.cloud.configuration_files) returned under the same name - contents that a run would
        have written by now.
    type: dict
    default: {}
attributes:
  check_mode: {support: full, description: Reports what a run would write and restart.}
  diff_mode: {support: full, description: Unit files, enablement and activity.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Placement
  brume.cloud.unit_rollout:
    units:
      - name: placement-api.service
        content: "{{ unit_text }}"
        files: [/etc/placement/placement.conf]
        revision: 2026.1-0123456789ab
        health: {http: 'http://127.0.0.1:18778/'}
      - name: haproxy.service
        files: [/etc/haproxy/haproxy.cfg]
        on_change: reload
        health: {tcp: {host: 192.0.2.10, port: 443}}
"""

RETURN = r"""
units:
  description: What became of each unit that was started, restarted or reloaded.
  type: list
  elements: dict
  returned: always
  contains:
    name: {description: The unit., type: str}
    action: {description: 'start, restart or reload.', type: str}
    seconds: {description: From its start until it was well or given up., type: float}
    healthy: {description: Whether it is well., type: bool}
    message: {description: Why it is not well., type: str}
    journal: {description: Its last 20 lines in the journal if it is not well., type: list, elements: str}
replaced:
  description: The units that ran and were restarted or reloaded, or would be.
  type: list
  elements: str
  returned: success
pending:
  description: Whether the other stage has something to do.
  type: bool
  returned: success
actions:
  description: One sentence for each change, the same in check mode and in a run.
  type: list
  elements: str
  returned: success
  sample: [write /etc/systemd/system/placement-api.service, restart placement-api.service (its unit or release changed)]
"""

import contextlib
import os
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import file_state, host_lock, rollout
from ansible_collections.brume.cloud.plugins.module_utils.convergence import atomic_write, read_marker, write_marker

SPEC: dict[str, Any] = {
    "units": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "content": {"type": "str"},
            "dropin": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent", "idle"], "default": "present"},
            "files": {"type": "list", "elements": "str", "default": []},
            "reload_files": {"type": "list", "elements": "str", "default": []},
            "revision": {"type": "str", "default": ""},
            "on_change": {"type": "str", "choices": ["restart", "reload", "none"], "default": "restart"},
            "enabled": {"type": "bool", "default": True},
            "after": {"type": "list", "elements": "str", "default": []},
            "health": {"type": "dict", "default": {}},
            "timeout": {"type": "float", "default": 120},
            "start_environment": {"type": "dict", "default": {}},
            "waits_for": {"type": "dict", "default": {}},
            "first": {"type": "bool", "default": False},
            "versions": {"type": "str", "default": ""},
            "broker": {"type": "str", "default": ""},
        },
    },
    "planned_digests": {"type": "dict", "default": {}},
    "stage": {"type": "str", "choices": ["", "start", "change", "well", "reconnect"], "default": ""},
}


def content_of(path: str) -> bytes | None:
    """Return a file's content, None when there is no file."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def text_of(path: str) -> str | None:
    """Return a unit file's text, None when there is no file."""
    content = content_of(path)
    return None if content is None else content.decode("utf-8", "replace")


def record_path(unit: rollout.Unit) -> str:
    """Return where a unit's record lies."""
    return f"{rollout.RECORDS}/{unit.name}.json"


def record(step: rollout.Step, digests: tuple[str, str], files: dict[str, str]) -> None:
    """Remember that a unit runs well with these digests."""
    os.makedirs(rollout.RECORDS, mode=0o700, exist_ok=True)
    known = read_marker(record_path(step.unit))
    same = known.get("revision") == step.unit.revision
    write_marker(
        record_path(step.unit),
        {
            "digest": digests[0],
            "start_digest": digests[1],
            "files": files,
            "revision": step.unit.revision,
            # Who starts later with the same release knows at least what was known before.
            "versions": step.unit.versions or (known.get("versions", "") if same else ""),
            "broker": step.unit.broker or known.get("broker", ""),
            "started_at": now(),
        },
        mode=0o600,
    )


def record_broker(step: rollout.Step) -> None:
    """Remember the broker with which a unit was started, and leave what else is recorded: it was not looked at."""
    known = read_marker(record_path(step.unit))
    write_marker(record_path(step.unit), {**known, "broker": step.unit.broker, "started_at": now()}, mode=0o600)


def now() -> str:
    """Return the time as records have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def checked(systemd: rollout.Systemd, *arguments: str) -> None:
    """Run systemctl for several units. Raises OSError with its message when it fails."""
    done = systemd.run(*arguments)
    if done.returncode:
        raise OSError(f"systemctl {' '.join(arguments)}: {done.stderr.strip() or f'exit code {done.returncode}'}")


def prepare(steps: list[rollout.Step], states: dict[str, rollout.State], systemd: rollout.Systemd) -> None:
    """Write unit files, enable and disable, stop what is idle, reload the manager once: all that precedes starts."""
    idle = [step.unit.name for step in steps if step.remove and step.unit.idle]
    known = [name for name in idle if states[name].load != "not-found"]
    if known:
        checked(systemd, "disable", "--now", "--no-reload", "--", *known)
    for name in idle:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{rollout.RECORDS}/{name}.json")
    for step in steps:
        for path in step.write:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            atomic_write(path, step.unit.texts[path] or "", mode=0o644, uid=0, gid=0)
    disable = [step.unit.name for step in steps if step.disable]
    if disable:
        checked(systemd, "disable", "--no-reload", "--", *disable)
    written = any(step.write for step in steps)
    needed = any(states[step.unit.name].needs_reload for step in steps)
    enable = [step.unit.name for step in steps if step.enable]
    if enable:
        checked(systemd, "enable", "--no-reload", "--", *enable)
    if written or idle or enable or disable or needed:
        checked(systemd, "daemon-reload")
    # systemd refuses to start a socket whose service runs; the service starts anew behind it. It is stopped last: what
    # another socket of its starts meanwhile is the service as it is to be.
    sockets = [step.unit.name for step in steps if step.verb and rollout.is_socket(step.unit.name)]
    behind = dict.fromkeys(rollout.service_of(name, states) for name in sockets)
    running = [name for name in behind if states.get(name, rollout.State()).is_active]
    if running:
        checked(systemd, "stop", "--", *running)
    failed = [step.unit.name for step in steps if step.verb and states[step.unit.name].active == "failed"]
    if failed:
        checked(systemd, "reset-failed", "--", *failed)


def remove(steps: list[rollout.Step], states: dict[str, rollout.State], systemd: rollout.Systemd) -> None:
    """Stop, disable and remove units that are absent, with their files; the record, which says whose they are, last.

    Sockets come before their services in the steps, and go before them: they would start them again.
    """
    gone = [step for step in steps if step.remove and step.unit.absent]
    for step in gone:
        if states[step.unit.name].load != "not-found":
            checked(systemd, "disable", "--now", "--no-reload", "--", step.unit.name)
    for step in gone:
        for path in (*step.files, *step.unit.texts):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.unlink(path)
        with contextlib.suppress(OSError):  # another's drop-in may lie there
            os.rmdir(f"{rollout.UNIT_DIRECTORY}/{step.unit.name}.d")
    if gone:
        checked(systemd, "daemon-reload")
    for step in gone:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(record_path(step.unit))


def diff(step: rollout.Step, texts: dict[str, str | None], state: rollout.State) -> list[dict[str, str]]:
    """Return the diffs of one unit: its files, then what systemd shall do with it."""
    wanted = step.unit.texts
    shown = [
        {
            "before_header": path if texts[path] is not None else f"{path} (absent)",
            "after_header": path if wanted[path] is not None else f"{path} (absent)",
            "before": texts[path] or "",
            "after": wanted[path] or "",
        }
        for path in (texts if step.remove else step.write)
        if texts[path] != wanted[path]
    ]
    lines = [line for line in step.actions if not line.startswith("write ")]
    if lines:
        before = f"{state.active}, {state.file_state or 'not there'}\n"
        after = "".join(f"{line}\n" for line in lines)
        shown.append(
            {"before_header": step.unit.name, "after_header": step.unit.name, "before": before, "after": after}
        )
    return shown


def main() -> None:
    """Read all units, decide, then write, start and wait."""
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    host_lock.hold(module)
    systemd = rollout.Systemd()
    outcomes: list[rollout.Outcome] = []
    try:
        planned = rollout.parse(module.params["units"])
        states = systemd.states([unit.name for unit in planned])
        texts = {unit.name: {path: text_of(path) for path in unit.texts} for unit in planned}
        # What this run has already written is on the host; only a simulation needs to be told.
        predicted = module.params["planned_digests"] if module.check_mode else {}
        digests = {unit.name: rollout.digest(unit, content_of, predicted) for unit in planned}
        files = {unit.name: rollout.file_digests(unit, content_of, predicted) for unit in planned}
        steps = []
        for unit in planned:
            known = read_marker(record_path(unit))
            changed = rollout.differing(known.get("files") or {}, files[unit.name])
            step = rollout.decide(
                unit,
                states[unit.name],
                known,
                texts[unit.name],
                digests[unit.name],
                changed_files=changed,
                there=[path for path, one in files[unit.name].items() if one != file_state.digest(None)],
                simulated=module.check_mode,
            )
            steps.append(step)
        reconnects = module.params["stage"] == "reconnect"

        def note(step: rollout.Step) -> None:
            if reconnects:
                record_broker(step)
            else:
                record(step, digests[step.unit.name], files[step.unit.name])

        every = rollout.with_files_once(rollout.with_sockets(steps, states))
        steps = rollout.of_stage(every, states, module.params["stage"], simulated=module.check_mode)
        if not module.check_mode:
            if any(step.actions for step in steps):
                prepare(steps, states, systemd)
            for first in (True, False):
                if all(outcome.healthy for outcome in outcomes):
                    outcomes += rollout.roll_out(
                        [step for step in steps if step.verb and step.unit.first == first],
                        states,
                        systemd,
                        note,
                    )
            if all(outcome.healthy for outcome in outcomes):
                remove(steps, states, systemd)
            for step in steps:
                if step.record and not step.verb:
                    note(step)
    except (rollout.UnitError, OSError) as error:
        module.fail_json(msg=str(error), units=[], invocation={})
    result: dict[str, Any] = {
        "changed": any(step.actions for step in steps),
        "actions": [line for step in steps for line in step.actions],
        "diff": [one for step in steps for one in diff(step, texts[step.unit.name], states[step.unit.name])],
        "units": [vars(outcome) for outcome in outcomes],
        "pending": rollout.is_pending(every, steps),
        "replaced": [step.unit.name for step in steps if step.verb in ("restart", "reload")],
        "invocation": {},
    }
    if not all(outcome.healthy for outcome in outcomes):
        module.fail_json(msg=rollout.failure_text(outcomes), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
