"""Virtual hosts and accounts: exported definitions in, an import and commands out."""

from __future__ import annotations

import json
import os
import pwd
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import messaging
from ansible_collections.brume.cloud.plugins.module_utils.convergence import ConvergenceError, apply_actions

# From RabbitMQ's page on passwords: `test12` with the salt 908D C60A.
SALT, KNOWN_PASSWORD = bytes.fromhex("908DC60A"), "test12"
KNOWN_HASH = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
ALL = {"configure": ".*", "write": ".*", "read": ".*"}


def vhost(name: str = "nova", **more: Any) -> dict[str, Any]:
    return {"name": name, "accounts": [{"name": "nova", "password": KNOWN_PASSWORD}]} | more


def exported(**more: Any) -> dict[str, Any]:
    return {
        "vhosts": [{"name": "nova", "default_queue_type": "quorum",
                    "metadata": {"description": "kept", "default_queue_type": "quorum"}}],
        "users": [{"name": "nova", "password_hash": KNOWN_HASH, "hashing_algorithm": messaging.ALGORITHM, "tags": []}],
        "permissions": [{"user": "nova", "vhost": "nova", **ALL}],
    } | more  # fmt: skip


def compare(
    wanted: list[dict[str, Any]], found: dict[str, Any], absent: Sequence[str] = ()
) -> tuple[list[str], dict[str, Any], list[list[str]]]:
    """Return the actions as sentences, the definitions to import, and the commands that are run."""
    commands: list[list[str]] = []

    def run(arguments: Sequence[str]) -> str:
        commands.append(list(arguments))
        return ""

    changes = messaging.compare(wanted, absent, found, run, lambda _size: SALT)
    apply_actions(changes.actions)
    return [str(action) for action in changes.actions], changes.definitions, commands


def test_the_hash_is_the_brokers() -> None:
    assert messaging.password_hash(KNOWN_PASSWORD, SALT) == KNOWN_HASH


@pytest.mark.parametrize(
    ("user", "matching"),
    [
        ({"password_hash": KNOWN_HASH}, True),
        ({"password_hash": KNOWN_HASH, "hashing_algorithm": "rabbit_password_hashing_md5"}, False),
        ({"password_hash": ""}, False),
        ({"password_hash": "no base64"}, False),
        ({"password_hash": messaging.password_hash("other", SALT)}, False),
        ({"password_hash": messaging.password_hash(KNOWN_PASSWORD, SALT, "rabbit_password_hashing_sha512"),
          "hashing_algorithm": "rabbit_password_hashing_sha512"}, True),
    ],
)  # fmt: skip
def test_a_password_is_compared_with_the_salt_it_was_kept_with(user: dict[str, Any], matching: bool) -> None:
    assert messaging.matches(KNOWN_PASSWORD, user) is matching


def test_everything_is_made_in_one_import() -> None:
    actions, definitions, commands = compare([vhost()], {})
    assert actions == ["create vhost nova", "create account nova", "create permission of nova on nova"]
    assert definitions == {
        "vhosts": [{"name": "nova", "metadata": {"default_queue_type": "quorum"}}],
        "users": [{"name": "nova", "password_hash": KNOWN_HASH, "hashing_algorithm": messaging.ALGORITHM, "tags": []}],
        "permissions": [{"user": "nova", "vhost": "nova", **ALL}],
    }
    assert commands == []


def test_what_is_as_wanted_stays() -> None:
    assert compare([vhost()], exported(), ["guest"]) == ([], {}, [])


@pytest.mark.parametrize(
    ("wanted", "found", "actions", "sections"),
    [
        (vhost(default_queue_type="classic"), exported(), ["update vhost nova (default_queue_type)"], ["vhosts"]),
        (vhost(accounts=[{"name": "nova", "password": "new"}]), exported(),
         ["update account nova (password)"], ["users"]),
        (vhost(accounts=[{"name": "nova", "password": KNOWN_PASSWORD, "tags": ["monitoring"]}]), exported(),
         ["update account nova (tags)"], ["users"]),
        (vhost(accounts=[{"name": "nova", "password": KNOWN_PASSWORD, "write": "^a"}]), exported(),
         ["update permission of nova on nova (write)"], ["permissions"]),
    ],
)  # fmt: skip
def test_only_what_differs_is_imported(wanted: Any, found: Any, actions: list[str], sections: list[str]) -> None:
    result = compare([wanted], found)
    assert result[0] == actions
    assert list(result[1]) == sections
    assert result[2] == []


def test_an_update_keeps_the_other_metadata() -> None:
    _actions, definitions, _commands = compare([vhost(default_queue_type="stream")], exported())
    assert definitions["vhosts"][0]["metadata"] == {"description": "kept", "default_queue_type": "stream"}


def test_an_account_reaches_its_own_vhosts_only() -> None:
    found = exported()
    found["permissions"].append({"user": "nova", "vhost": "/", **ALL})
    actions, definitions, commands = compare([vhost()], found)
    assert actions == ["delete permission of nova on /"]
    assert (definitions, commands) == ({}, [["clear_permissions", "-p", "/", "nova"]])


def test_what_is_absent_goes_and_nothing_else() -> None:
    found = exported()
    found["users"].append({"name": "guest", "password_hash": "", "tags": "administrator"})
    actions, _definitions, commands = compare([vhost(state="absent")], found, ["guest", "nobody"])
    assert actions == ["delete account guest", "delete account nova", "delete vhost nova"]
    assert commands == [["delete_user", "guest"], ["delete_user", "nova"], ["delete_vhost", "nova"]]
    assert compare([vhost("gone", state="absent", accounts=[])], exported()) == ([], {}, [])


def test_an_account_that_another_vhost_wants_stays_and_a_vhost_that_goes_takes_its_permissions() -> None:
    found = exported()
    found["vhosts"].append({"name": "old"})
    found["permissions"].append({"user": "nova", "vhost": "old", **ALL})
    actions, _definitions, commands = compare([vhost(), vhost("old", state="absent")], found)
    assert actions == ["delete vhost old"]
    assert commands == [["delete_vhost", "old"]]


def test_every_mistake_is_reported_at_once() -> None:
    wanted = [
        vhost("a;b"),
        vhost("c", accounts=[{"name": "n"}, {"name": "nova", "password": "other"}]),
        vhost("c", accounts=[{"name": "bad", "password": "p"}]),
    ]
    with pytest.raises(ConvergenceError) as caught:
        compare(wanted, {}, ["-x", "bad"])
    assert str(caught.value).splitlines() == [
        "vhost c: named more than once; one entry may stay",
        "vhost c: account n: no password; give one, or `state: absent`",
        "vhost c: account nova: password or tags differ from its entry at another vhost",
        "vhost c: account bad: is in absent_accounts too",
        "name 'a;b': only letters, digits and ./@:+-_ can be used, and no hyphen first",
        "name '-x': only letters, digits and ./@:+-_ can be used, and no hyphen first",
    ]


def test_a_broker_that_was_never_started_is_predicted(tmp_path: Path) -> None:
    assert messaging.is_fresh(str(tmp_path / "none"))
    assert messaging.is_fresh(str(tmp_path))
    (tmp_path / "rabbit@aio").mkdir()
    assert not messaging.is_fresh(str(tmp_path))
    actions, _definitions, commands = compare([vhost(), vhost("/", accounts=[])], messaging.FRESH, ["guest"])
    assert actions == [
        "create vhost nova", "update vhost / (default_queue_type)", "create account nova",
        "create permission of nova on nova", "delete account guest",
    ]  # fmt: skip
    assert commands == [["delete_user", "guest"]]
    own = vhost("/", accounts=[{"name": "guest", "password": "x"}], default_queue_type="classic")
    assert compare([own], messaging.FRESH)[0] == ["update account guest (password, tags)"]


def cluster(running: str, **members: str) -> dict[str, Any]:
    streams = [{"vhost": "nova", "name": name, "members": nodes.split()} for name, nodes in members.items()]
    return {"running": running.split(), "streams": streams}


def test_streams_regain_replicas_on_every_node_that_runs() -> None:
    found = cluster("a b d", compute_fanout="a", scheduler_fanout="a b c d")
    found["streams"].append({"vhost": "others", "name": "x", "members": ["a"]})
    lacking = messaging.lacking_replicas(["nova"], ["a", "b", "c"], found)
    assert lacking == [("nova", "compute_fanout", "b")]
    assert [str(one) for one in messaging.replica_actions(lacking)] == [
        "create stream replica of compute_fanout in nova on b"
    ]


def test_all_replicas_are_added_in_one_call_and_the_failed_ones_named() -> None:
    calls: list[Sequence[str]] = []

    def run(words: Sequence[str]) -> str:
        calls.append(words)
        return json.dumps({"value": ["ok", "{error,node_not_running}"]})

    messaging.add_replicas([], run)
    assert not calls
    with pytest.raises(ConvergenceError) as caught:
        messaging.add_replicas([("nova", "x_fanout", "rabbit@b"), ("nova", "y_fanout", "rabbit@b")], run)
    assert str(caught.value) == "create stream replica of y_fanout in nova on rabbit@b: {error,node_not_running}"
    assert len(calls) == 1
    assert """{<<"nova">>, <<"x_fanout">>, 'rabbit@b'}, {<<"nova">>, <<"y_fanout">>, 'rabbit@b'}]].""" in calls[0][-1]


def test_a_stream_whose_name_a_shell_would_read_is_left_to_a_person() -> None:
    found = cluster("a b", **{"x; reboot": "a"})
    with pytest.raises(ConvergenceError, match="x; reboot: the names are not safe"):
        messaging.lacking_replicas(["nova"], ["a", "b"], found)


@pytest.mark.parametrize("answer", ["", "[]", "{}", '{"node": "a"}'])
def test_an_answer_that_is_none_is_said(answer: str) -> None:
    with pytest.raises(messaging.MessagingError, match="no answer that can be read"):
        messaging.read_cluster(lambda _words: answer)


def test_an_account_that_goes_must_not_be_in_use() -> None:
    said = [{"user": "nova", "peer_host": "192.0.2.12"}, {"user": "nova", "peer_host": "192.0.2.11"},
            {"user": "nova", "peer_host": "192.0.2.11"}, {"user": "nova_2", "peer_host": "2001:db8::5"}]  # fmt: skip
    asked: list[list[str]] = []

    def run(arguments: Sequence[str]) -> str:
        asked.append(list(arguments))
        return json.dumps(said)

    used = messaging.users(run)
    assert used == {"nova": {"192.0.2.11", "192.0.2.12"}, "nova_2": {"2001:db8::5"}}
    assert asked == [["list_connections", "--formatter", "json", "user", "peer_host"]]
    gone = vhost(accounts=[{"name": "nova", "state": "absent"}, {"name": "nova_2", "password": "x"}])
    changes = messaging.compare([gone], [], exported(), run, lambda _size: SALT)
    messaging.refuse_used(changes.actions, {"nova_2": {"2001:db8::5"}})
    with pytest.raises(ConvergenceError) as caught:
        messaging.refuse_used(changes.actions, used)
    assert str(caught.value) == (
        "account nova: is still used from 192.0.2.11, 192.0.2.12; "
        "roll the new one out there first (playbooks/site.yml), then run again"
    )


def test_the_imported_file_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    seen: list[Any] = []

    def run(arguments: Sequence[str]) -> str:
        path = Path(arguments[1])
        modes = [stat.S_IMODE(item.stat().st_mode) for item in (path, path.parent)]
        seen.extend([arguments[0], json.loads(path.read_text()), *modes])
        raise messaging.MessagingError("refused")

    with pytest.raises(messaging.MessagingError, match="refused"):
        messaging.import_definitions({"users": []}, run, pwd.getpwuid(os.getuid()).pw_name, str(tmp_path))
    assert seen == ["import_definitions", {"users": []}, 0o600, 0o700]
    assert os.listdir(tmp_path) == []


def test_a_failed_command_says_what_it_said_without_hashes(tmp_path: Path) -> None:
    command = tmp_path / "rabbitmqctl"
    command.write_text(f"#!/bin/sh\necho 'bad user {KNOWN_HASH}' >&2; exit 69\n")
    command.chmod(0o755)
    with pytest.raises(messaging.MessagingError) as caught:
        messaging.connect(str(command))(["export_definitions", "-"])
    assert str(caught.value) == "rabbitmqctl export_definitions: bad user <secret> (exit status 69)"


def test_a_command_gets_no_standard_input_and_a_limit(tmp_path: Path) -> None:
    command = tmp_path / "rabbitmqctl"
    command.write_text("#!/bin/sh\ncat; [ $2 = quick ] || exec sleep 10\n")
    command.chmod(0o755)
    run = messaging.connect(str(command), timeout=1)
    assert run(["quick"]) == ""
    with pytest.raises(messaging.MessagingError, match="no answer in 1 s"):
        run(["slow"])


def test_a_broker_says_which_one_it_is() -> None:
    """As an export has it, beside parameters that an operator may have set."""
    other = {"name": "cluster_name", "value": "rabbit@one"}
    own = {"name": "internal_cluster_id", "value": "rabbitmq-cluster-id-x"}
    assert messaging.identity(exported(global_parameters=[other, own])) == "rabbitmq-cluster-id-x"
    assert messaging.identity(exported(global_parameters=[other])) == ""
    assert messaging.identity(messaging.FRESH) == ""


def test_a_broker_without_any_vhost_of_ours_is_a_new_one() -> None:
    wanted = [vhost("nova"), vhost("neutron")]
    assert messaging.is_anew(wanted, messaging.FRESH)
    assert not messaging.is_anew(wanted, exported()), "one vhost is there"
    assert not messaging.is_anew([vhost("cinder", state="absent")], messaging.FRESH)
