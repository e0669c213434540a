"""What keeps Nova from going back to the release before: two things that its databases hold after a newer one has run.

A service refuses to start with an older version than the lowest of its kind (nova.objects.service.Service,
`_check_minimum_version`), and versioned objects are kept as they were last written, which older code does not read
(oslo.versionedobjects, IncompatibleObjectVersion). The newer release knows how its objects look to older code, because
it speaks to older hosts; so its Python writes them as these read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.releases import release_number

VERSIONS = r"""
from nova.objects import base, service

def do(order):
    known = {name: kinds[0].VERSION for name, kinds in base.NovaObjectRegistry.obj_classes().items()}
    return {"objects": known, "service": service.SERVICE_VERSION}
"""
"""What a release has: the version of each object, and that of services."""

LEVEL = r"""
import sqlalchemy
from nova.db.api import api as api_database, models as api_models
from nova.db.main import api as main_database, models
from nova.objects import base

ROWS = 500

def number(version):
    return tuple(int(part) for part in version.split("."))

def is_newer(found, known):
    if isinstance(found, dict):
        name = found.get("nova_object.name")
        if name in known and number(found["nova_object.version"]) > number(known[name]):
            return True
    return any(is_newer(one, known) for one in (found.values() if isinstance(found, dict) else found)
               if isinstance(one, (dict, list)))

def levelled(found, known):
    if isinstance(found, dict) and found.get("nova_object.name") in known:
        item = base.NovaObject.obj_from_primitive(found)
        # An old object may have a part that is newer: an object is never written as newer than it is.
        target = min(item.VERSION, known[found["nova_object.name"]], key=number)
        return item.obj_to_primitive(target_version=target, version_manifest=known)
    if isinstance(found, dict):
        return {key: levelled(one, known) for key, one in found.items()}
    return [levelled(one, known) for one in found] if isinstance(found, list) else found

def level(within, model, known, write):
    # A transaction for each batch: others write to these tables meanwhile, and a cluster refuses large ones.
    last, count = 0, 0
    while last is not None:
        last, changed = within(lambda session: batch(session, model.__table__, known, write, last))
        count += changed
    return count

def batch(session, table, known, write, last):
    query = sqlalchemy.select(table).where(table.c.id > last).order_by(table.c.id).limit(ROWS)
    rows, count = session.execute(query).mappings().all(), 0
    for row in rows:
        texts = {name: text for name, text in row.items() if isinstance(text, str) and '"nova_object.version"' in text}
        found = {name: json.loads(text) for name, text in texts.items()}
        values = {name: json.dumps(levelled(one, known)) for name, one in found.items() if is_newer(one, known)}
        count += bool(values)
        if values and write:
            # What has been written meanwhile is left to the next call.
            same = [table.c[name] == texts[name] for name in values]
            session.execute(table.update().where(table.c.id == row["id"], *same).values(**values))
    return (rows[-1]["id"] if rows else None), count

def do(order):
    known, lowest, write = order["objects"], order["service"], order["write"]
    changes = []
    def note(cell, model, count):
        if count:
            changes.append({"cell": cell, "table": model.__tablename__, "rows": count})
    @api_database.context_manager.writer
    def in_api(context, work):
        return work(context.session)
    @main_database.pick_context_manager_writer
    def in_cell(context, work):
        return work(context.session)
    def lower(session):
        services = models.Service.__table__
        newer = sqlalchemy.and_(services.c.version > lowest, services.c.deleted == 0)
        columns = (services.c.binary, services.c.host, services.c.version)
        rows = session.execute(sqlalchemy.select(*columns).where(newer)).all()
        if rows and write:
            session.execute(services.update().where(newer).values(version=lowest))
        return rows
    spec = api_models.RequestSpec
    note("", spec, level(lambda work: in_api(ctx, work), spec, known, write))
    for mapping in objects.CellMappingList.get_all(ctx):
        name = mapping.name or mapping.uuid
        with context.target_cell(ctx, mapping) as cell:
            for model in (models.InstanceExtra, models.ComputeNode):
                note(name, model, level(lambda work: in_cell(cell, work), model, known, write))
            for binary, host, version in in_cell(cell, lower):
                changes.append({"cell": name, "service": binary, "host": host, "version": version})
    return {"changes": changes}
"""
"""Writes what is newer than an order's `objects` and `service` say as they have it; without `write` only lists it."""


def _release(path: str) -> tuple[int, ...]:
    """Return the release in an environment's path as a number, empty for a development branch."""
    return release_number(path.rpartition("/")[2].rpartition("-")[0])


def newest(paths: Iterable[str], planned: str) -> str:
    """Return the environment of the newest release after that of the planned one, empty where there is none."""
    return max((path for path in paths if _release(path) > _release(planned) > ()), key=_release, default="")


def sentence(change: Mapping[str, Any], version: int, release: str) -> str:
    """Return a change for people."""
    if "service" in change:
        who = f"{change['service']} on {change['host']} in {change['cell']}"
        return f"lower the version of {who} from {change['version']} to {version}"
    place = f" of {change['cell']}" if change["cell"] else ""
    return f"write {change['rows']} rows of {change['table']}{place} as {release} reads them"
