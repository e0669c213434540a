"""Makes, tests and restores backups of a cloud, in steps of the playbooks backup.yml and restore.yml."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from ansible_collections.brume.cloud.plugins.action import keystone_catalog
from ansible_collections.brume.cloud.plugins.action.host_removal import IMAGES
from ansible_collections.brume.cloud.plugins.module_utils import (
    age_keys,
    backup,
    backup_store,
    backup_stream,
    fernet,
    host_shell,
    keystone_bootstrap,
    schema,
)
from ansible_collections.brume.cloud.plugins.module_utils.plan import PlanError
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice
from ansible_collections.brume.cloud.plugins.module_utils.secrets import SecretError, derive, password

DATA = "/var/lib/mysql"
WORK = "/var/lib/brume-backup"
"""Where a backup is unpacked on a host, beside nothing else; it goes when it was tried or put in place."""

CLIENT: list[str] = []
"""Words for the client: root by the server's own socket."""

FORGOTTEN = [keystone_catalog.RECORD, keystone_bootstrap.RECORD, schema.RECORDS]
"""What controllers remember of the database that was: passwords, the administrator, and which schema work is done."""

REGISTERED = {
    "__backup_store": "database", "__backup_member": "database", "__backup_database": "database",
    "__backup_told": "database", "__backup_tried": "database", "__backup_controller": "control",
    "__backup_images": "control",
}  # fmt: skip
"""Variables that the playbooks register, and the group whose hosts do: variables of a host take long to look up."""


class ActionModule(PlanAction):
    """Takes `step` and what that step needs.

    - `check` (any host): `variables`, and sees that the database is this cloud's. Asks no host.
    - `store` (delegated to where folders of backups are kept): `path`, a folder or object store, and `login`, under
      which name its credentials are known. Returns what is there.
    - `member` (database hosts), `controller` (control hosts): what the host says.
    - `database`, `images`, `finish`: make a backup. `kind`, `images`, `count` and `days` say which.
    - `try` (database hosts): restores `name` into a throw-away server of one of them and compares; `keep` its data.
    - `tell` (one host): says what restoring `name` means; fails unless `confirm` names it. `confirmed`: fails where
      that was left out.
    - `place` (database hosts), `forget` and `unpack` (control hosts), `identify` (all hosts): restore.

    What other steps have found is in registered variables, those of REGISTERED.
    """

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Do the step; in check mode only what reads."""
        self.known: Any = task_vars or {}
        args = dict(self._task.args)
        try:
            self.piece = self.slice(self.known)
            step: Callable[..., dict[str, Any]] = getattr(self, f"_step_{args.pop('step')}")
            return {"changed": False, **step(**args)}
        except (PlanError, SecretError, backup.BackupError, backup_stream.StreamError) as error:
            return {"failed": True, "msg": str(error)}
        except host_shell.UnusableError as error:
            message = f"{error}, and backups go through a connection of their own\n  next: use keys for SSH and become"
            return {"failed": True, "msg": message}

    # reading

    def _step_check(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        if not self.piece.plan.cloud.members["database"]:
            raise backup.BackupError("brume_external.database: whoever runs the database backs it up and restores it")
        problems = []
        scheme = ""
        try:
            scheme, _bucket, _prefix = backup_store.parse(str(variables.get("path") or ""))
        except backup_store.StoreError as error:
            problems.append(str(error))
        if variables.get("kind") not in (backup.FULL, backup.INCREMENTAL):
            problems.append(f"backup_kind: is neither {backup.FULL} nor {backup.INCREMENTAL}")
        for key in ("count", "days"):
            if not str(variables.get(key)).isdecimal():
                problems.append(f"backup_keep_{key}: is no number from 0 (no limit)")
        host = variables["host"]
        if host != "localhost" and host not in self.piece.plan.hosts and host not in self.known["hostvars"]:
            problems.append(f"backup_host: {host} is no host of the inventory")
        if scheme and host != "localhost":
            problems.append(f"backup_host: {scheme} is reached from the deploy host alone; next: leave it out")
        if scheme == "swift" and not variables.get("login"):
            problems.append("backup_login: names no login for Swift; next: -e backup_login=<entry of clouds.yaml>")
        if problems:
            raise backup.BackupError("\n".join(problems))
        return {}

    def _step_store(self, path: str, login: str) -> dict[str, Any]:
        # Libraries and logins of object stores are those of this run's user.
        argv = backup_stream.here() if backup_store.parse(path)[0] else self._argv()
        where = {"path": path, "login": login}
        listed = backup_stream.ask(argv, "store_list", **where)
        backup.found(listed, self.piece.vault.master_key, self.piece.plan.cloud.region)
        return {"store": {"argv": argv, "where": where, "listed": listed}}

    def _step_member(self) -> dict[str, Any]:
        return {"member": backup_stream.ask(self._argv(), "member", data=DATA, client=CLIENT)}

    def _step_controller(self) -> dict[str, Any]:
        keys = fernet.REPOSITORIES["fernet"]
        return {"controller": backup_stream.ask(self._argv(), "controller", keys=keys, records=schema.RECORDS)}

    # making

    def _step_database(self, kind: str) -> dict[str, Any]:
        """Back up the chosen member; the others skip."""
        found = self._found()
        members = {name: one["member"] for name, one in self._said("__backup_member").items()}
        choice = backup.choose(members, found.manifests, kind)
        if choice.member != self.piece.host.name:
            return {"skipped": True, "skip_reason": f"{choice.member} is backed up"}
        kind = backup.INCREMENTAL if choice.base else backup.FULL
        onto = f", what changed since {choice.base}" if choice.base else ""
        actions = [f"delete {name}, which is not whole" for name in found.partial]
        actions += [f"back up the database ({kind}{onto})", *(f"note: {one}" for one in choice.notes)]
        name = backup.name_of(datetime.now(UTC), kind, max(found.manifests, default=""))
        made: dict[str, Any] = {"name": name, "base": choice.base, "parts": [], "notes": list(choice.notes)}
        if not self._task.check_mode:
            self._ask_store("store_delete", names=list(found.partial))
            self._ask_store("store_begin", name=name)
            base = found.manifests.get(choice.base, {})
            request = {"data": DATA, "client": CLIENT, "options": [], "recipient": self._recipient(), "folder": WORK}
            given, part = self._put(name, "database", "database_pack", {**request, "from_lsn": base.get("to_lsn")})
            made |= {"parts": [part], **given, "member": choice.member, "version": members[choice.member]["version"]}
        return {"changed": True, "actions": actions, "made": made}

    def _step_images(self) -> dict[str, Any]:
        """Back up the files of this host's image store that no backup below has."""
        made, manifests = self._made(), self._found().manifests
        here = self.piece.host.name
        below = backup.images_of(backup.chain(made["base"], manifests) if made["base"] else [], manifests)
        known = {image: size for image, (_name, size) in below.get(here, {}).items()}
        # Listed now, after the database: every image that it knows as whole is there.
        listed: dict[str, int] = backup_stream.ask(self._argv(), "images_list", images=IMAGES)
        new = {image: size for image, size in sorted(listed.items()) if known.get(image) != size}
        if not new:
            return {"part": None, "new": {}}
        actions = [f"back up {len(new)} files of Glance's store, {sum(new.values()) >> 20} MiB"]
        part = None
        if not self._task.check_mode:
            request = {"images": IMAGES, "names": list(new), "recipient": self._recipient()}
            new, part = self._put(made["name"], f"images-{here}", "images_pack", request)
        return {"changed": True, "actions": actions, "part": part, "new": new}

    def _step_finish(self, images: bool, count: int, days: int) -> dict[str, Any]:
        """Write the manifest, which makes the backup whole, and delete what has expired."""
        made, found = self._made(), self._found()
        plan, master_key = self.piece.plan, self.piece.vault.master_key
        said = self._said("__backup_images") if images else {}
        now = {**found.manifests, made["name"]: {"base": made["base"], "with_images": images}}
        going = backup.expired(list(now), now, datetime.now(UTC), count, days)
        actions = ["make the backup whole", *(f"delete {name}, which has expired" for name in going)]
        if not self._task.check_mode:
            controllers = [one["controller"] for one in self._said("__backup_controller").values()]
            primaries = [one["primary"] for one in controllers]
            release = backup.release_of((one["releases"] for one in controllers), plan.cloud.release)
            manifest = {
                "format": backup.FORMAT, "name": made["name"], "base": made["base"],
                "cloud": backup.cloud_mark(master_key), "region": str(plan.cloud.region), "release": release,
                "member": made["member"], "version": made["version"], "identity": made["identity"],
                "to_lsn": made["to_lsn"], "unpacked": made["unpacked"], "tables": made["tables"], **planned(self.piece),
                "parts": [*made["parts"], *(one["part"] for one in said.values() if one.get("part"))],
                "with_images": images, "images": {host: one["new"] for host, one in said.items() if one.get("new")},
                "fernet_primary": max((one for one in primaries if one is not None), default=None),
            }  # fmt: skip
            self._ask_store("store_commit", name=made["name"], manifest=backup.sign(manifest, master_key))
            self._ask_store("store_delete", names=going)
            self._display.display(f"Backup: {self._store('where')['path'].rstrip('/')}/{made['name']}")
        return {"changed": True, "actions": actions, "name": made["name"]}

    # testing and restoring

    def _step_try(self, name: str = "", keep: bool = False, accept: str = "") -> dict[str, Any]:
        """Restore a backup into a throw-away server of a database host and compare; keep its data for `place`.

        That is done on the first host, otherwise on the last one, which serves clients least often. Differences of the
        backup that `accept` names are told and do not fail.
        """
        hosts = [host for host, _address in self.piece.plan.cloud.members["database"]]
        where = hosts[0 if keep else -1]
        if self.piece.host.name != where:
            return {"skipped": True, "skip_reason": f"{where} does it"}
        return self._tried(name, keep=keep, accept=accept)

    def _tried(self, name: str, *, keep: bool, accept: str) -> dict[str, Any]:
        found = self._found()
        chosen = self._told()["name"] if keep else backup.pick(name, found)
        names = backup.chain(chosen, found.manifests)
        argv = self._argv()
        if not self._task.check_mode:
            backup_stream.ask(argv, "remove", paths=[WORK])
        needed, free = backup.needed(names, found.manifests), backup_stream.ask(argv, "room", folder=WORK)
        if free < needed:
            raise backup.BackupError(
                f"{WORK}: {chosen} takes {needed >> 20} MiB there, and {free >> 20} MiB are free\n"
                "  next: make room on this host, and run again"
            )
        # Only what is kept for `place` is a change.
        outcome = {"actions": [f"restore {chosen} into a throw-away server and compare"], "changed": keep}
        if self._task.check_mode:
            return outcome
        try:
            for one in names:
                request = {"folder": WORK, "name": one, "identity": self._identity()}
                self._get(one, "database", argv, "database_unpack", request)
            tried = backup_stream.ask(argv, "database_try", folder=WORK, names=names, **restoring(self.piece))
            wrong = backup.differences(found.manifests[chosen]["tables"], tried["tables"])
            spoiled = self._spoiled(names)
        except BaseException:
            backup_stream.ask(argv, "remove", paths=[WORK])
            raise
        # Files of images never keep a database from being restored.
        fatal = wrong + spoiled
        if keep:
            fatal = [] if accept == chosen else wrong
        if fatal or not keep:
            backup_stream.ask(argv, "remove", paths=[WORK])
        if fatal:
            shown = "\n".join(f"  {one}" for one in fatal[: backup.SHOWN])
            remedy = "make a full backup now, and test it"
            if keep:
                remedy = f"restore another one, or take this one as it is: -e restore_accept_differences={chosen}"
            raise backup.BackupError(
                f"{chosen}: a server that it was restored into differs in {len(fatal)}:\n{shown}\n  next: {remedy}"
            )
        for one in wrong:
            self._display.warning(f"{chosen}: {one}; accepted")
        for one in spoiled:
            self._display.warning(f"{one}; its images will be lacking")
        if not wrong:
            compared = backup.compared(found.manifests[chosen]["tables"])
            self._display.display(f"{chosen} can be restored: {compared}")
        return {**outcome, "identities": tried["identities"]}

    def _spoiled(self, names: list[str]) -> list[str]:
        """Return which files of backups are not what was written; the database's were read already."""
        found, spoiled = self._found(), []
        for name in names:
            for part in found.manifests[name]["parts"]:
                if part["file"] == "database":
                    continue
                try:
                    if self._ask_store("store_sum", name=name, file=part["file"]) != part["sha256"]:
                        spoiled.append(f"{name}/{part['file']}: its SHA-256 is another")
                except backup_stream.StreamError as error:
                    spoiled.append(f"{name}/{part['file']}: {error}")
        return spoiled

    def _step_tell(self, name: str, confirm: str) -> dict[str, Any]:
        """Say what a restore means, and refuse it where it does not fit or is not confirmed."""
        found = self._found()
        chosen = backup.pick(name, found)
        names = backup.chain(chosen, found.manifests)
        now = planned(self.piece)
        lacking = backup.not_fitting(found.manifests[chosen], self.piece.plan.cloud.release, now["services"])
        if lacking:
            raise backup.BackupError("\n".join(lacking))
        told = backup.told(names, found.manifests, datetime.now(UTC), now)
        self._display.display("\n".join(["Restore", *(f"  {one}" for one in told)]))
        if not self._task.check_mode and confirm != chosen:
            raise backup.BackupError(
                f"restore_confirm: nothing was changed\n  next: read what is lost, and run again with "
                f"-e restore_confirm={chosen}"
            )
        return {"name": chosen, "told": told}

    def _step_confirmed(self) -> dict[str, Any]:
        """Fail where `tell` was left out."""
        return {"name": self._told()["name"]}

    def _step_place(self) -> dict[str, Any]:
        """Put the data that was tried on the first database host in place; give the others none."""
        hosts = [name for name, _address in self.piece.plan.cloud.members["database"]]
        here, name = self.piece.host.name, self._told()["name"]
        if here == hosts[0]:
            actions = [f"replace the database by that of {name}"]
            full = backup.chain(name, self._found().manifests)[0]
            request: dict[str, Any] = {"do": "database_place", "folder": WORK, "name": full}
        else:
            actions = [f"empty the database, which takes over that of {hosts[0]}"]
            request = {"do": "database_empty"}
        if not self._task.check_mode:
            backup_stream.ask(self._argv(), request.pop("do"), data=DATA, **request)
        return {"changed": True, "actions": actions}

    def _step_forget(self) -> dict[str, Any]:
        """Let a controller forget what it knew of the database that was."""
        primary = self._found().manifests[self._told()["name"]]["fernet_primary"]
        if not self._task.check_mode:
            backup_stream.ask(self._argv(), "remove", paths=FORGOTTEN)
        return {
            "changed": True,
            "actions": ["forget what is known of the database that was"],
            "fernet_primary": primary,
        }

    def _step_identify(self) -> dict[str, Any]:
        """Give components of a bare host the identities that they have in the restored database."""
        actions, argv, here = [], self._argv(), self.piece.host.name
        for instance in self.piece.host.instances:
            for one in self.piece.sources.services[instance.service].restore.identities:
                if one.component != instance.component:
                    continue
                there = backup_stream.ask(argv, "identity_read", file=one.file)
                # A dry run has no database to look into.
                found = {} if self._task.check_mode else self._any("__backup_tried", "identities").get(one.file, {})
                known = found.get(here, "")
                if there and known not in ("", there):
                    self._display.warning(
                        f"{here}: {instance.service} knew its {one.component} as {known} and it is {there}, because "
                        "the machine was replaced since; next: when nothing of the cloud is on it, write the former "
                        f"into {one.file} and restart {instance.unit} there"
                    )
                if there or not (known or self._task.check_mode):
                    continue
                if known:
                    backup_stream.ask(argv, "identity_write", file=one.file, identity=known)
                actions.append(f"give this host the identity by which {instance.service} knows its {one.component}")
        return {"changed": bool(actions), **({"actions": actions} if actions else {})}

    def _step_unpack(self) -> dict[str, Any]:
        """Put files of Glance's store in place: a host's own, on the first controller those of absent hosts too.

        Files that cannot be put are told and do not fail: who ran it all again would lose what came since.
        """
        found, here, argv = self._found(), self.piece.host.name, self._argv()
        controllers = [name for name, _address in self.piece.plan.cloud.members["control"]]
        names = backup.chain(self._told()["name"], found.manifests)
        there = backup_stream.ask(argv, "images_list", images=IMAGES)
        actions, lacking = [], []
        for host, images in backup.images_of(names, found.manifests).items():
            if here != (host if host in controllers else controllers[0]):
                continue
            for name in names:
                sizes = {image: size for image, (at, size) in images.items() if at == name and there.get(image) != size}
                if not sizes:
                    continue
                actions.append(f"put {len(sizes)} files of {host} into Glance's store")
                if self._task.check_mode:
                    continue
                request = {"images": IMAGES, "identity": self._identity(), "sizes": sizes}
                try:
                    lacking += self._get(name, f"images-{host}", argv, "images_unpack", request)
                except backup.BackupError as error:
                    self._display.warning(str(error))
                    lacking += sizes
        if lacking:
            self._display.warning(f"{here}: {len(lacking)} files are not put into Glance's store: {', '.join(lacking)}")
        return {"changed": bool(actions), "actions": actions, "lacking": lacking}

    # what they share

    def _argv(self) -> list[str]:
        variables = self.known
        if self._task.delegate_to:
            variables = variables["ansible_delegated_vars"][self._task.delegate_to]
        python = str(variables.get("ansible_python_interpreter") or "/usr/bin/python3")
        return host_shell.command(self._connection, backup_stream.shell(python))

    def _said(self, name: str) -> dict[str, Any]:
        """Return what hosts have registered under a name, where they have not skipped it."""
        return dict(self._each(name))

    def _each(self, name: str) -> Iterator[tuple[str, Any]]:
        for host, _address in self.piece.plan.cloud.members[REGISTERED[name]]:
            one = self.known["hostvars"][host].get(name) or {}
            if one and not one.get("skipped"):
                yield host, one

    def _any(self, name: str, key: str) -> Any:
        for _host, one in self._each(name):
            if key in one:
                return one[key]
        raise backup.BackupError(
            f"{name}: no host has it, because an earlier play was left out; nothing was changed here\n"
            "  next: run the whole playbook, without --limit and --start-at-task"
        )

    def _store(self, key: str) -> Any:
        return self._any("__backup_store", "store")[key]

    def _ask_store(self, do: str, **request: Any) -> Any:
        return backup_stream.ask(self._store("argv"), do, **self._store("where"), **request)

    def _made(self) -> dict[str, Any]:
        return dict(self._any("__backup_database", "made"))

    def _told(self) -> dict[str, Any]:
        return {"name": self._any("__backup_told", "name")}

    def _found(self) -> backup.Found:
        return backup.found(self._store("listed"), self.piece.vault.master_key, self.piece.plan.cloud.region)

    def _recipient(self) -> str:
        return age_keys.recipient(self._age())

    def _identity(self) -> str:
        return age_keys.identity(self._age())

    def _age(self) -> str:
        # No generation: old backups are to be opened after a rotation too.
        return password(derive(self.piece.vault.master_key, backup.AGE_SECRET, 1, 48))

    def _put(self, name: str, file: str, do: str, request: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Let this host's data flow into a file of a backup; return the host's result and the part."""
        source = backup_stream.Call(self._argv(), do, request)
        where = {**self._store("where"), "name": name, "file": file}
        target = backup_stream.Call(self._store("argv"), "store_put", where)
        given, written = backup_stream.flow(source, target)
        return given or {}, {"file": file, **written}

    def _get(self, name: str, file: str, argv: list[str], do: str, request: Mapping[str, Any]) -> Any:
        """Let a file of a backup flow to a host; return its result. Raises BackupError for one that is spoiled."""
        part = next(one for one in self._found().manifests[name]["parts"] if one["file"] == file)
        where = {**self._store("where"), "name": name, "file": file}
        source = backup_stream.Call(self._store("argv"), "store_get", where)
        target = backup_stream.Call(argv, do, {**request, "sha256": part["sha256"]})
        try:
            return backup_stream.flow(source, target)[1]
        except backup_stream.StreamError as error:
            remedy = "" if "\n  next: " in str(error) else "\n  next: use another backup"
            raise backup.BackupError(f"{name}/{file}: {error}{remedy}") from error


def restoring(piece: Slice) -> dict[str, Any]:
    """Return what services want done and read in a restored database, as `backup_host.database_try` takes it."""
    ahead: list[str] = []
    identities: list[dict[str, Any]] = []
    for name in piece.plan.services:
        restore = piece.sources.services[name].restore
        databases = [one.name for one in piece.plan.cloud.databases if one.service == name]
        ahead += [f"{database}.{table}" for database in databases for table in restore.ahead]
        identities += [
            {"file": one.file, "tables": [f"{database}.{one.table}" for database in databases],
             "host": one.host, "identity": one.identity}
            for one in restore.identities
        ]  # fmt: skip
    return {"ahead": ahead, "identities": identities}


def planned(piece: Slice) -> dict[str, Any]:
    """Return what of the plan belongs into a manifest: services with their packages, and digests of configuration."""
    plan, key = piece.plan, piece.vault.master_key
    services = {one.service: one.digest for host in plan.hosts.values() for one in host.environments}
    configuration = {
        name: {
            one.entry.path: backup.keyed_digest(key, one.text)
            for one in piece.renderer.files(host, list(plan.services))
        }
        for name, host in plan.hosts.items()
    }
    return {"services": services, "configuration": configuration}
