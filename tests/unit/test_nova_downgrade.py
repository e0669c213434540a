"""Nova's records after a newer release: the real code of two releases writes and reads databases of its own."""

from __future__ import annotations

import getpass
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils.nova_downgrade import LEVEL, VERSIONS, newest, sentence
from ansible_collections.brume.cloud.plugins.module_utils.nova_process import NovaError, NovaProcess

from .nova_environment import nova_python

OLD, NEW = "2025.1", "2026.1"
INSTANCE = "6b1d5ed9-6b6c-4d5d-8a0e-2f6f3c1c0a11"

WRITE = f"""
import sqlalchemy
from nova.db.main import api as main_database, models

def do(order):
    cell = objects.CellMapping(ctx, uuid="11111111-1111-1111-1111-111111111111", name="cell1", disabled=False,
                               transport_url="fake:///", database_connection=order["database"])
    cell.create()
    image = objects.ImageMeta(properties=objects.ImageMetaProps(hw_sound_model="virtio", hw_disk_bus="virtio"))
    spec = objects.RequestSpec(ctx, instance_uuid="{INSTANCE}", image=image, num_instances=1)
    spec.create()
    with context.target_cell(ctx, cell) as target:
        objects.Service(target, host="compute1", binary="nova-compute", topic="compute", disabled=False).create()

        @main_database.pick_context_manager_writer
        def insert(inner):
            table = models.InstanceExtra.__table__
            text = json.dumps({{"cur": image.obj_to_primitive()}})
            inner.session.execute(sqlalchemy.insert(table).values(instance_uuid="{INSTANCE}", flavor=text, deleted=0))
        insert(target)
    return {{}}
"""

READ = f"""
from nova import exception, service as nova_service
from nova.db.main import api as main_database, models
from oslo_versionedobjects.exception import IncompatibleObjectVersion

def do(order):
    said = {{}}
    try:
        spec = objects.RequestSpec.get_by_instance_uuid(ctx, "{INSTANCE}")
        said["spec"] = spec.image.properties.hw_disk_bus
    except IncompatibleObjectVersion as error:
        said["spec"] = type(error).__name__
    cell = objects.CellMappingList.get_all(ctx)[0]
    with context.target_cell(ctx, cell) as target:
        service = objects.Service.get_by_host_and_binary(target, "compute1", "nova-compute")
        try:
            nova_service._update_service_ref(service)
            said["service"] = "saved"
        except exception.ServiceTooOld as error:
            said["service"] = type(error).__name__

        @main_database.pick_context_manager_reader
        def extra(inner):
            text = inner.session.query(models.InstanceExtra).one().flavor
            return objects.ImageMeta.obj_from_primitive(json.loads(text)["cur"])
        try:
            said["extra"] = extra(target).properties.hw_disk_bus
        except IncompatibleObjectVersion as error:
            said["extra"] = type(error).__name__
    return said
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="changing the user needs root")
def test_an_older_release_reads_what_a_newer_one_has_written(tmp_path: Path) -> None:
    config = tmp_path / "nova.conf"
    database = f"sqlite:///{tmp_path}/main.sqlite"
    config.write_text(
        f"[DEFAULT]\nstate_path = {tmp_path}\n[database]\nconnection = {database}\n"
        f"[api_database]\nconnection = sqlite:///{tmp_path}/api.sqlite\n"
    )
    folders = {release: Path(nova_python(release)).parent.parent for release in (OLD, NEW)}
    for words in (["api_db", "sync"], ["db", "sync", "--local_cell"]):
        subprocess.run([folders[NEW] / "bin/nova-manage", "--config-file", config, *words], check=True)

    def ask(release: str, program: str, **order: Any) -> dict[str, Any]:
        process = NovaProcess(str(folders[release]), getpass.getuser(), str(config), program)
        try:
            return process.order(do="work", **order)
        finally:
            process.close()

    ask(NEW, WRITE, database=database)
    refused = {"spec": "IncompatibleObjectVersion", "service": "ServiceTooOld", "extra": "IncompatibleObjectVersion"}
    assert ask(OLD, READ) == refused
    known = ask(OLD, VERSIONS)
    changes = ask(NEW, LEVEL, write=False, **known)["changes"]
    assert ask(OLD, READ) == refused, "a dry run writes nothing"
    assert ask(NEW, LEVEL, write=True, **known)["changes"] == changes
    assert [sentence(one, known["service"], OLD) for one in changes] == [
        "write 1 rows of request_specs as 2025.1 reads them",
        "write 1 rows of instance_extra of cell1 as 2025.1 reads them",
        "lower the version of nova-compute on compute1 in cell1 from 72 to 68",
    ]
    assert ask(OLD, READ) == {"spec": "virtio", "service": "saved", "extra": "virtio"}
    assert ask(NEW, LEVEL, write=True, **known)["changes"] == []
    with pytest.raises(NovaError, match=r"could not work:\n(.*\n)+.*ZeroDivisionError"):
        ask(OLD, "def do(order):\n    1 / 0\n")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["2025.1-a", "2026.1-b"], "2026.1-b"),
        (["2026.1-b", "2025.1-a", "2026.2-c"], "2026.2-c"),
        (["2025.1-a", "2024.2-b", "2025.1-c"], ""),
        (["master-a"], ""),
        ([], ""),
    ],
)
def test_the_newest_of_later_releases_is_taken(names: list[str], expected: str) -> None:
    paths = [f"/opt/brume/nova/{name}" for name in names]
    assert newest(paths, "/opt/brume/nova/2025.1-a") == (f"/opt/brume/nova/{expected}" if expected else "")
