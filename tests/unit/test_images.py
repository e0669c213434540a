"""Images: a fake Image API in memory that keeps Glance's rules, so that predictions can be tried."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.brume.cloud.plugins.action import glance_images as action
from ansible_collections.brume.cloud.plugins.module_utils import api_session, image_files, images, sources
from ansible_collections.brume.cloud.plugins.module_utils.api_session import ApiError
from ansible_collections.brume.cloud.plugins.module_utils.convergence import ConvergenceError, apply_actions, report
from ansible_collections.brume.cloud.plugins.module_utils.plan import plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import ActionBase, PlanAction, Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer
from ansible_collections.brume.cloud.plugins.module_utils.secrets import Vault
from ansible_collections.brume.cloud.plugins.modules import glance_images as module

from .fake_images import PROJECT, Glance, Killed
from .inventories import AIO, inventory

DATA = {"debian": b"debian 1", "new": b"debian 2", "kernel": b"kernel 1", "ramdisk": b"ramdisk 1", "other": b"other"}


def checksum(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def image(name: str = "debian", data: bytes = DATA["debian"], **more: Any) -> dict[str, Any]:
    url = f"https://images.example.org/{name}"
    return {"name": name, "url": url, "checksum": checksum(data), "disk_format": "qcow2", "replace": "hide", **more}


@pytest.fixture
def glance() -> Glance:
    return Glance()


@contextmanager
def obtained(item: Mapping[str, Any]) -> Iterator[images.Data]:
    """Give the data of a checksum, from a file that is gone afterwards."""
    data = next(one for one in DATA.values() if item["checksum"] in (checksum(one), checksum(one, "sha512")))
    path = Path(f"/dev/shm/brume-test-{threading.get_ident()}")
    path.write_bytes(data)
    try:
        yield images.Data(str(path), hashlib.sha512(data).hexdigest())
    finally:
        path.unlink()


def compared(glance: Glance, *items: Mapping[str, Any], nova: bool = True) -> list[Any]:
    client = images.Glance(glance.request, glance.patch, glance.upload)
    actual = images.fetch(items, glance.request, PROJECT, glance.compute if nova else None)
    return images.compare(items, actual, client, obtained)


def converges(glance: Glance, *items: Mapping[str, Any], nova: bool = True) -> list[str]:
    """Return the actions after seeing that the dry run changes nothing and the next run has nothing to do."""
    before = len(glance.calls)
    dry = report(compared(glance, *items, nova=nova))
    assert len(glance.calls) == before, "a dry run changes nothing"
    actions = compared(glance, *items, nova=nova)
    assert report(actions) == dry
    apply_actions(actions, 2)
    assert report(compared(glance, *items, nova=nova)) == {"changed": False, "actions": [], "diff": []}
    found: list[str] = dry["actions"]
    return found


def refused(glance: Glance, *items: Mapping[str, Any]) -> str:
    """Return why the wanted state cannot be, after seeing that nothing was changed."""
    before = len(glance.calls)
    with pytest.raises(ConvergenceError) as caught:
        compared(glance, *items)
    assert len(glance.calls) == before
    return str(caught.value)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images.time, "sleep", lambda _seconds: None)


# --- making and changing ----------------------------------------------------------------------------------------------


def test_an_image_is_made_with_all_that_belongs_to_it(glance: Glance) -> None:
    wanted = image(
        visibility="public", architecture="x86_64", os_distro="debian", os_version="13", min_disk=3, min_ram=512,
        properties={"hw_disk_bus": "scsi", "hw_qemu_guest_agent": True, "hw_cpu_max_sockets": 2},
        protected=True, tags=["lts", "base"],
    )  # fmt: skip
    assert converges(glance, wanted) == ["create image debian"]
    (made,) = glance.of("debian")
    assert (made["disk_format"], made["container_format"], made["status"]) == ("qcow2", "bare", "active")
    assert (made["visibility"], made["min_disk"], made["min_ram"], made["protected"]) == ("public", 3, 512, True)
    assert (made["architecture"], made["os_distro"], made["os_version"]) == ("x86_64", "debian", "13")
    assert (made["hw_disk_bus"], made["hw_qemu_guest_agent"], made["hw_cpu_max_sockets"]) == ("scsi", "true", "2")
    assert sorted(made["tags"]) == ["base", "lts"]
    assert made["brume_checksum"] == checksum(DATA["debian"])
    assert "brume_upload" not in made


def test_nobody_sees_an_image_before_its_data_are_complete(glance: Glance) -> None:
    converges(glance, image())
    verbs = [call.split()[0] for call in glance.calls]
    assert verbs == ["POST", "PUT", "PATCH", "PATCH"]
    assert '"os_hidden": true' in glance.calls[0]
    assert "os_hidden" in glance.calls[-1]
    assert "os_hidden" not in glance.calls[2]


def test_what_is_not_said_is_left_alone_and_what_is_said_is_exact(glance: Glance) -> None:
    converges(glance, image(tags=["a", "b"], properties={"one": "1", "two": "2"}, min_ram=64, os_distro="debian"))
    (made,) = glance.of("debian")
    made |= {"owner_specified.openstack.md5": "", "os_glance_failed_import": ""}
    assert converges(glance, image()) == []
    changed = image(tags=["b", "c"], properties={"two": "3", "a/b~c": "4"}, min_ram=0, visibility="private")
    dry = report(compared(glance, changed))["diff"][0]
    assert ('properties: {"one": "1", "two": "2"}' in dry["before"], "min_ram: 64" in dry["before"]) == (True, True)
    assert converges(glance, changed) == ["update image debian (min_ram, properties, tags, visibility)"]
    (made,) = glance.of("debian")
    assert {key: made.get(key) for key in ("one", "two", "a/b~c", "os_distro", "min_ram")} == {
        "one": None, "two": "3", "a/b~c": "4", "os_distro": "debian", "min_ram": 0,
    }  # fmt: skip
    assert ("owner_specified.openstack.md5" in made, "os_glance_failed_import" in made) == (True, True)
    assert converges(glance, image(properties={}, tags=[])) == ["update image debian (properties, tags)"]
    assert glance.uploaded == len(DATA["debian"])


def test_other_images_other_projects_and_snapshots_are_left_alone(glance: Glance) -> None:
    glance.foreign("cirros", b"cirros")
    glance.foreign("debian", b"theirs", owner="p2")
    snapshot = glance.foreign("debian", b"snapshot", image_type="snapshot", brume_checksum=checksum(DATA["debian"]))
    before = json.dumps([snapshot, *glance.of("cirros")])
    assert converges(glance, image()) == ["create image debian"]
    (made,) = [number for number in glance.images if number.startswith("image")]
    assert converges(glance, {"name": "debian", "state": "absent"}) == [f"delete image debian ({made})"]
    assert json.dumps([snapshot, *glance.of("cirros")]) == before
    assert len(glance.images) == 3


def test_all_pages_are_read() -> None:
    glance = Glance(page=2)
    assert len(converges(glance, *(image(f"i{number}") for number in range(5)))) == 5


def test_an_image_of_somebody_else_is_known_by_sha512_alone(glance: Glance) -> None:
    glance.foreign("debian", DATA["debian"], visibility="public")
    assert converges(glance, image(checksum=checksum(DATA["debian"], "sha512"))) == []
    assert len(converges(glance, image())) == 2
    assert glance.uploaded == len(DATA["debian"])


def test_of_two_with_the_wanted_data_the_visible_one_counts(glance: Glance) -> None:
    seen = glance.foreign("debian", DATA["debian"])
    glance.foreign("debian", DATA["debian"], os_hidden=True)
    assert converges(glance, image(checksum=checksum(DATA["debian"], "sha512"))) == []
    assert glance.of("debian") == [seen]


# --- other data -------------------------------------------------------------------------------------------------------


def test_other_data_are_another_image_and_the_one_before_is_hidden(glance: Glance) -> None:
    converges(glance, image())
    (old,) = glance.of("debian")
    new = image(data=DATA["new"])
    assert converges(glance, new) == ["create image debian", f"update image debian ({old['id']}) (os_hidden)"]
    (made,) = glance.of("debian")
    assert made["brume_checksum"] == checksum(DATA["new"])
    assert glance.of("debian", hidden=True) == [old]
    assert old["status"] == "active"


def test_what_was_there_before_is_shown_again_without_an_upload(glance: Glance) -> None:
    converges(glance, image())
    converges(glance, image(data=DATA["new"]))
    before, (old,), (new,) = glance.uploaded, glance.of("debian", hidden=True), glance.of("debian")
    assert converges(glance, image()) == [
        "update image debian (os_hidden)",
        f"update image debian ({new['id']}) (os_hidden)",
    ]
    assert (glance.of("debian"), glance.uploaded) == ([old], before)


def test_a_former_image_is_hidden_though_another_one_fails(glance: Glance) -> None:
    converges(glance, image(), image("cirros", DATA["other"]))
    glance.wrong = {"raw"}
    with pytest.raises(ConvergenceError, match="create image cirros: Glance finds that the data are no raw"):
        apply_actions(compared(glance, image(data=DATA["new"]), image("cirros", DATA["other"], disk_format="raw")))
    assert [one["brume_checksum"] for one in glance.of("debian")] == [checksum(DATA["new"])]


def test_a_former_image_is_deleted_where_that_is_wanted_and_no_instance_uses_it(glance: Glance) -> None:
    converges(glance, image(protected=True))
    (old,) = glance.of("debian")
    new = image(data=DATA["new"], replace="delete", protected=True)
    glance.instances = {old["id"]}
    assert converges(glance, new)[1:] == [f"update image debian ({old['id']}) (os_hidden)"]
    glance.instances = set()
    assert converges(glance, new) == [f"delete image debian ({old['id']})"]
    (made,) = glance.of("debian")
    assert converges(glance, image(replace="delete", protected=True)) == [
        "create image debian", f"delete image debian ({made['id']})",
    ]  # fmt: skip


def test_what_others_have_uploaded_is_never_deleted_for_another_of_its_name(glance: Glance) -> None:
    old = glance.foreign("debian", b"by hand")
    assert converges(glance, image(replace="delete")) == [
        "create image debian", f"update image debian ({old['id']}) (os_hidden)",
    ]  # fmt: skip


def test_nova_is_asked_only_where_something_may_be_deleted(glance: Glance) -> None:
    converges(glance, image())
    converges(glance, image(data=DATA["new"]))
    client = images.fetch([image(data=DATA["new"])], glance.request, PROJECT, lambda *_any: pytest.fail("asked"))
    assert client.used == set()


def test_absent_deletes_all_of_a_name_and_hides_what_instances_use(glance: Glance) -> None:
    gone = {"name": "debian", "state": "absent"}
    assert converges(glance, gone) == []
    converges(glance, image())
    converges(glance, image(data=DATA["new"]))
    (new,), (old,) = glance.of("debian"), glance.of("debian", hidden=True)
    glance.instances = {new["id"]}
    assert converges(glance, gone) == [
        f"update image debian ({new['id']}) (os_hidden)",
        f"delete image debian ({old['id']})",
    ]
    glance.instances = set()
    assert converges(glance, gone) == [f"delete image debian ({new['id']})"]
    assert glance.images == {}


def test_without_nova_no_image_is_in_use(glance: Glance) -> None:
    converges(glance, image())
    glance.instances = set(glance.images)
    assert len(converges(glance, {"name": "debian", "state": "absent"}, nova=False)) == 1
    assert glance.images == {}


def test_what_is_protected_goes_only_where_it_is_said(glance: Glance) -> None:
    converges(glance, image(protected=True))
    (made,) = glance.of("debian")
    gone = {"name": "debian", "state": "absent"}
    assert refused(glance, gone) == (
        f"image debian: {made['id']} is protected; say `protected: false` beside `state: absent`"
    )
    assert converges(glance, {**gone, "protected": False}) == [f"delete image debian ({made['id']})"]


def test_another_format_is_another_image(glance: Glance) -> None:
    converges(glance, image())
    assert len(converges(glance, image(disk_format="raw"))) == 2
    assert [one["disk_format"] for one in glance.of("debian")] == ["raw"]
    assert len(converges(glance, image(disk_format="raw", container_format="docker"))) == 2


def test_an_image_that_somebody_has_deactivated_stays_so(glance: Glance) -> None:
    converges(glance, image())
    glance.of("debian")[0]["status"] = "deactivated"
    assert converges(glance, image()) == []


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arrived", [False, True])
@pytest.mark.parametrize("at", range(1, 9))
def test_a_killed_run_is_finished_by_the_next(at: int, arrived: bool) -> None:
    """Whatever was done by then: one image of the name is seen, with all its data, and the former one is hidden."""
    glance = Glance(stores=["file", "ceph"])
    converges(glance, image())
    first = len(glance.calls)
    wanted = image(data=DATA["new"], stores=["ceph", "file"], min_ram=64, protected=True, properties={"a": "b"})
    glance.kill = (first + at, arrived)
    try:
        apply_actions(compared(glance, wanted))
        died = False
    except Killed:
        died = True
    assert died == (at <= 6), "POST, PUT, mark, copy, show, hide"
    glance.kill = None
    for record in list(glance.images.values()):  # what Glance finishes by itself
        while record["id"] in glance.pending:
            glance.request("GET", f"/v2/images/{record['id']}")
    for seen in glance.of("debian"):
        assert "brume_upload" not in seen, "nobody sees an image without all its data"
    converges(glance, wanted)
    (made,), (old,) = glance.of("debian"), glance.of("debian", hidden=True)
    assert (made["os_hash_value"], old["os_hash_value"]) == tuple(
        hashlib.sha512(DATA[name]).hexdigest() for name in ("new", "debian")
    )
    assert (made["stores"], made["min_ram"], made["protected"], made["a"]) == ("ceph,file", 64, True, "b")
    assert len(glance.images) == 2


def test_an_interrupted_upload_is_deleted_though_the_name_is_to_go(glance: Glance) -> None:
    glance.kill = (2, False)
    with pytest.raises(Killed):
        apply_actions(compared(glance, image()))
    glance.kill = None
    assert [one["status"] for one in glance.images.values()] == ["saving"]
    number = next(iter(glance.images))
    assert converges(glance, {"name": "debian", "state": "absent"}) == [f"delete interrupted image debian ({number})"]


def test_data_that_nobody_has_verified_are_not_taken_for_the_wanted_ones(glance: Glance) -> None:
    wanted = image(checksum=checksum(DATA["debian"], "sha512"))
    glance.kill = (2, True)
    with pytest.raises(Killed):
        apply_actions(compared(glance, wanted))
    glance.kill = None
    assert [one["status"] for one in glance.images.values()] == ["active"]
    assert converges(glance, wanted) == ["delete interrupted image debian (image-1)", "create image debian"]


def test_what_glance_refuses_leaves_nothing(glance: Glance) -> None:
    glance.wrong = {"qcow2"}
    with pytest.raises(ConvergenceError, match="create image debian: Glance finds that the data are no qcow2, or of"):
        apply_actions(compared(glance, image()))
    assert glance.images == {}


def test_data_that_changed_on_their_way_leave_nothing(glance: Glance) -> None:
    glance.damaged = b"cut off"
    with pytest.raises(ConvergenceError, match="Glance has other data than were sent"):
        apply_actions(compared(glance, image()))
    assert glance.images == {}


def test_a_leftover_that_cannot_be_deleted_is_named(glance: Glance, monkeypatch: pytest.MonkeyPatch) -> None:
    glance.wrong = {"qcow2"}
    actions = compared(glance, image())
    real = glance._change

    def change(method: str, *rest: Any) -> Any:
        if method == "DELETE":
            raise ApiError("no", 500)
        return real(method, *rest)

    monkeypatch.setattr(glance, "_change", change)
    with pytest.raises(ConvergenceError, match="image image-1 is left for the next run to delete: no"):
        apply_actions(actions)
    monkeypatch.undo()
    glance.wrong = set()
    assert converges(glance, image()) == ["delete interrupted image debian (image-1)", "create image debian"]


def test_one_name_twice_is_refused(glance: Glance) -> None:
    assert "image debian: named more than once" in refused(glance, image(), image())


# --- kernels and stores -----------------------------------------------------------------------------------------------


def machine() -> list[dict[str, Any]]:
    return [
        image("ami", DATA["debian"], disk_format="ami", kernel="aki", ramdisk="ari", properties={"x": "y"}),
        image("aki", DATA["kernel"], disk_format="aki"),
        image("ari", DATA["ramdisk"], disk_format="ari"),
    ]


def test_an_image_names_its_kernel_and_its_ram_disk(glance: Glance) -> None:
    assert converges(glance, *machine()) == ["create image aki", "create image ari", "create image ami"]
    (ami,), (aki,), (ari,) = (glance.of(name) for name in ("ami", "aki", "ari"))
    assert (ami["kernel_id"], ami["ramdisk_id"]) == (aki["id"], ari["id"])
    assert [one["container_format"] for one in (ami, aki, ari)] == ["ami", "aki", "ari"]


def test_an_image_follows_its_kernel(glance: Glance) -> None:
    converges(glance, *machine())
    ami, _aki, ari = machine()
    (old,) = glance.of("aki")
    (dry,) = [one for one in report(compared(glance, ami, image("aki", DATA["new"], disk_format="aki"), ari))["diff"]
              if one["before_header"] == "image ami"]  # fmt: skip
    assert (f"kernel: aki ({old['id']})\n" in dry["before"], "kernel: aki\n" in dry["after"]) == (True, True)
    assert converges(glance, ami, image("aki", DATA["new"], disk_format="aki"), ari) == [
        "create image aki", "update image ami (kernel)", f"update image aki ({old['id']}) (os_hidden)",
    ]  # fmt: skip
    assert glance.of("ami")[0]["kernel_id"] == glance.of("aki")[0]["id"]


def test_a_kernel_that_is_not_declared_is_refused(glance: Glance) -> None:
    assert refused(glance, *machine()[:2]) == "image ami: its ramdisk ari is no image of the list; declare it too"


def test_data_are_copied_between_stores() -> None:
    glance = Glance(stores=["file", "ceph", "swift"])
    converges(glance, image(stores=["ceph", "swift"]))
    (made,) = glance.of("debian")
    assert made["stores"] == "ceph,swift"
    assert converges(glance, image(stores=["swift", "ceph"])) == []
    assert converges(glance, image(stores=["file"])) == ["update image debian (stores)"]
    assert glance.of("debian")[0]["stores"] == "file"
    assert converges(glance, image()) == []
    assert glance.uploaded == len(DATA["debian"])


def test_an_image_whose_copies_are_missing_is_not_seen() -> None:
    glance = Glance(stores=["file", "ceph"])
    glance.busy = {"ceph"}
    with pytest.raises(ConvergenceError, match="was not copied to ceph; Glance's journal says why"):
        apply_actions(compared(glance, image(stores=["file", "ceph"])))
    assert glance.of("debian") == []
    assert len(glance.asked) < 10, "what Glance has given up is not waited for"
    glance.busy = set()
    assert converges(glance, image(stores=["file", "ceph"])) == ["update image debian (os_hidden, stores)"]
    assert glance.uploaded == len(DATA["debian"])


def test_a_copy_that_is_on_its_way_is_told() -> None:
    glance = Glance(stores=["file", "ceph"])
    converges(glance, image())
    glance.of("debian")[0]["os_glance_import_task"] = "another"
    with pytest.raises(ConvergenceError, match=r"Image has active task.*gives up after an hour"):
        apply_actions(compared(glance, image(stores=["file", "ceph"])))


def test_what_has_to_be_uploaded_is_known_beforehand(glance: Glance) -> None:
    converges(glance, image())
    items = [image(), image("new", DATA["new"]), {"name": "old", "state": "absent"}]
    assert images.needed(items, images.fetch(items, glance.request, PROJECT)) == ["new"]


# --- files ------------------------------------------------------------------------------------------------------------


class Web:
    """A web server with files; `asked` are the paths that were fetched, `cut` those that end early."""

    def __init__(self, files: dict[str, bytes]) -> None:
        """Take the content by path."""
        self.files, self.asked, self.cut = files, list[str](), set[str]()

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve and yield the address."""
        web = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_arguments: Any) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                web.asked.append(self.path)
                data = web.files.get(self.path)
                self.send_response(404 if data is None else 200)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                self.wfile.write((data or b"")[: 3 if self.path in web.cut else None])

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        server.server_close()


@pytest.fixture
def web() -> Iterator[tuple[Web, str]]:
    found = Web({f"/{name}": data for name, data in DATA.items()})
    with found.served() as address:
        yield found, address


def fetched(folder: Path, item: dict[str, Any], **files: str) -> tuple[bytes, str]:
    progress = image_files.Progress(str(folder / "progress"))
    with image_files.obtained(item, str(folder), files, progress) as data:
        return Path(data.path).read_bytes(), data.sha512


def test_data_are_fetched_verified_and_gone_afterwards(web: tuple[Web, str], tmp_path: Path) -> None:
    data, digest = fetched(tmp_path, image(url=f"{web[1]}/debian"))
    assert (data, digest) == (DATA["debian"], hashlib.sha512(data).hexdigest())
    assert [one.name for one in tmp_path.iterdir()] == ["progress"]
    lines = (tmp_path / "progress").read_text().splitlines()
    assert (lines[0], lines[-1]) == ("debian: fetching", "debian: done")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/new", r"/new has the sha256 [0-9a-f]{64}, not the declared [0-9a-f]{64}; correct `checksum`"),
        ("/none", r"cannot fetch http://.*/none: HTTP Error 404"),
        ("/other", r"cannot fetch .*/other|/other ended after 3 of 5 bytes; run again"),
    ],
)
def test_data_that_are_not_those_are_told_and_gone(
    web: tuple[Web, str], tmp_path: Path, path: str, message: str
) -> None:
    web[0].cut = {"/other"}
    with pytest.raises(ConvergenceError, match=message):
        fetched(tmp_path, image(url=f"{web[1]}{path}"))
    assert [one.name for one in tmp_path.iterdir()] == ["progress"]


def test_what_does_not_fit_is_not_begun(
    web: tuple[Web, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_files.shutil, "disk_usage", lambda _path: type("Usage", (), {"free": 3}))
    with pytest.raises(ConvergenceError, match=r"has 0 MiB, and .* has 0 MiB free"):
        fetched(tmp_path, image(url=f"{web[1]}/debian"))


def test_only_the_web_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ConvergenceError, match="is no address of a web server"):
        fetched(tmp_path, image(url="file:///etc/passwd"))


def test_a_file_that_was_brought_is_verified_and_goes(tmp_path: Path) -> None:
    here, folder = tmp_path / "here", tmp_path / "folder"
    folder.mkdir()
    here.write_bytes(DATA["debian"])
    assert fetched(folder, image(path="/far/away"), debian=str(here))[0] == DATA["debian"]
    assert not here.exists()


def test_two_images_with_the_same_data_do_not_meet(web: tuple[Web, str], tmp_path: Path) -> None:
    progress = image_files.Progress(str(tmp_path / "progress"))
    one, two = (image(name, url=f"{web[1]}/debian") for name in ("one", "two"))
    with image_files.obtained(one, str(tmp_path), {}, progress) as first:
        with image_files.obtained(two, str(tmp_path), {}, progress) as second:
            assert first.path != second.path
        assert Path(first.path).read_bytes() == DATA["debian"]


def test_progress_is_told_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(image_files.time, "monotonic", lambda: now[0])
    progress = image_files.Progress(str(tmp_path / "progress"))
    progress.tell("debian", "fetching")
    for block in range(1, 5):
        now[0] += 1.0
        progress.tell("debian", "fetched", block * image_files.BLOCK, 9 * image_files.BLOCK)
    progress.tell("debian", "done")
    assert (tmp_path / "progress").read_text().splitlines() == [
        "debian: fetching", "debian: fetched 2 of 9 MiB", "debian: fetched 4 of 9 MiB", "debian: done",
    ]  # fmt: skip


# --- the module, over HTTP --------------------------------------------------------------------------------------------


@pytest.fixture
def served(glance: Glance) -> Iterator[tuple[Glance, str]]:
    """Serve Keystone, Glance and Nova on loopback; the second is the address."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            data = self.rfile.read(length)
            status, result, headers = 200, {}, {}
            if self.path.startswith("/v3/auth/tokens"):
                password = json.loads(data)["auth"]["identity"]["password"]["user"]["password"]
                status = 201 if password == "hunter2" else 401
                times = {"issued_at": "2026-05-04T12:00:00.000000Z", "expires_at": "2036-05-04T13:00:00.000000Z"}
                scope = {"project": {"id": PROJECT, "name": "admin", "domain": {"id": "default", "name": "Default"}}}
                result = {"token": {**times, **scope, "methods": ["password"], "user": {"id": "u", "name": "admin"}}}
                headers = {"X-Subject-Token": "token"}
            else:
                assert self.headers["X-Auth-Token"] == "token"
                try:
                    result = self.of_service(data)
                except ApiError as error:
                    status, result = error.status, {"error": {"message": str(error)}}
            text = json.dumps(result).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Type": "application/json", "Content-Length": len(text)}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(text)

        def of_service(self, data: bytes) -> dict[str, Any]:
            path = self.path.removeprefix("/image")
            if self.path.startswith("/compute"):
                return glance.compute(self.command, self.path.removeprefix("/compute"))
            if self.command == "PUT":
                assert int(self.headers["Content-Length"]) == len(data), "Glance is told the size beforehand"
                assert self.headers["Content-Type"] == "application/octet-stream"
                glance.take(path, data, self.headers.get("x-image-meta-store", ""))
                return {}
            if self.command == "PATCH":
                assert self.headers["Content-Type"] == images.PATCH_TYPE
                return glance.patch(path, json.loads(data))
            return glance.request(self.command, path, json.loads(data) if data else None)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = answer

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield glance, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def call(
    capsys: pytest.CaptureFixture[str], url: str, folder: Path, check: bool = False, **arguments: Any
) -> dict[str, Any]:
    auth = {"auth_url": url, "username": "admin", "password": "hunter2", "project_name": "admin", "timeout": 5}
    taken = {
        "auth": auth | arguments.pop("auth", {}), "image_url": f"{url}/image", "compute_url": f"{url}/compute",
        "folder": str(folder), **arguments, "_ansible_check_mode": check,
    }  # fmt: skip
    with patch_module_args(taken), pytest.raises(SystemExit):
        module.main()
    text = capsys.readouterr().out
    assert "hunter2" not in text
    result: dict[str, Any] = json.loads(text)
    return result


def said(result: dict[str, Any]) -> dict[str, Any]:
    return {key: result[key] for key in ("changed", "actions", "diff", "needed")}


NOBODY = "http://127.0.0.1:9"


def test_the_module_over_http(
    served: tuple[Glance, str], web: tuple[Web, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    glance, url = served
    glance.stores = ["file", "ceph"]
    wanted = [image(url=f"{web[1]}/debian", stores=["ceph", "file"]), {"name": "old", "state": "absent"}]
    record, folder = {"start_record": str(tmp_path / "record")}, tmp_path / "images"
    nowhere = call(capsys, NOBODY, folder, check=True, images=wanted, **record)
    assert (nowhere["changed"], nowhere["needed"]) == (True, ["debian"])
    assert said(call(capsys, url, folder, check=True, images=wanted, **record)) == said(nowhere)
    assert (glance.calls, web[0].asked, folder.exists()) == ([], [], False)
    assert said(call(capsys, url, folder, images=wanted, **record)) == said(nowhere)
    assert [one["stores"] for one in glance.of("debian")] == ["ceph,file"]
    assert (web[0].asked, folder.exists()) == (["/debian"], False)
    assert call(capsys, url, folder, images=wanted)["changed"] is False
    assert web[0].asked == ["/debian"]


def test_a_judgment_changes_nothing(
    served: tuple[Glance, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    wanted = {key: value for key, value in image(path="/far/away").items() if key != "url"}
    judged = call(capsys, served[1], tmp_path / "images", judge=True, images=[wanted])
    assert (judged["changed"], judged["needed"], served[0].calls) == (False, ["debian"], [])


def test_a_file_that_was_brought_is_uploaded(
    served: tuple[Glance, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    here = tmp_path / "here"
    here.write_bytes(DATA["debian"])
    wanted = {key: value for key, value in image(path="/far/away").items() if key != "url"}
    done = call(capsys, served[1], tmp_path / "images", images=[wanted], files={"debian": str(here)})
    assert (done["actions"], here.exists()) == (["create image debian"], False)
    assert served[0].of("debian")[0]["size"] == len(DATA["debian"])


def test_what_a_killed_run_has_left_in_the_folder_goes_before_anything_comes(
    served: tuple[Glance, str], web: tuple[Web, str], capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "left").write_bytes(b"half of an image")
    seen: list[list[str]] = []
    real = image_files._download

    def download(*given: Any) -> None:
        seen.append([one.name for one in folder.iterdir() if one.name == "left"])
        real(*given)

    monkeypatch.setattr(image_files, "_download", download)
    call(capsys, served[1], folder, images=[image(url=f"{web[1]}/debian")])
    assert (seen, folder.exists()) == ([[]], False)


def test_the_folder_is_root_s_alone(tmp_path: Path) -> None:
    image_files.prepare(str(tmp_path / "images"))
    assert (tmp_path / "images").stat().st_mode & 0o777 == 0o700


def test_nova_is_asked_what_instances_use(
    served: tuple[Glance, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    glance, url = served
    number = glance.foreign("debian", b"by hand")["id"]
    glance.instances = {number}
    gone = call(capsys, url, tmp_path / "images", images=[{"name": "debian", "state": "absent"}])
    assert gone["actions"] == [f"update image debian ({number}) (os_hidden)"]


def test_a_glance_that_was_there_has_to_answer(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "record").touch()
    monkeypatch.setattr(api_session, "log_in", partial(api_session.log_in, attempts=1))
    failed = call(capsys, NOBODY, tmp_path / "images", check=True, start_record=str(tmp_path / "record"),
                  images=[image()])  # fmt: skip
    assert failed["failed"]
    assert "refused" in failed["msg"]


def test_what_glance_says_is_the_message(
    served: tuple[Glance, str], web: tuple[Web, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    served[0].wrong = {"qcow2"}
    failed = call(capsys, served[1], tmp_path / "images", images=[image(url=f"{web[1]}/debian")])
    assert failed["msg"].startswith("create image debian: Glance finds that the data are no qcow2")
    served[0].wrong, served[0].stores = set(), ["ceph"]
    failed = call(capsys, served[1], tmp_path / "images", images=[image(url=f"{web[1]}/debian", stores=["file"])])
    assert failed["msg"] == "create image debian: Store file is unknown (HTTP 400) (HTTP 400)"
    assert served[0].images == {}


def test_an_error_in_html_is_read() -> None:
    head = "<html>\n <head>\n  <title>413 Too Large</title>\n </head>\n"
    page = f"{head} <body>\n  <h1>413 Too Large</h1>\n  Quota.<br />\n"
    answer = type("Answer", (), {"text": page, "json": staticmethod(lambda: json.loads(page)), "status_code": 413})
    assert api_session.error_message(answer) == "413 Too Large Quota. (HTTP 413)"


@pytest.mark.parametrize("missing", ["checksum", "disk_format", "url"])
def test_an_image_says_what_it_is(capsys: pytest.CaptureFixture[str], tmp_path: Path, missing: str) -> None:
    wanted = {key: value for key, value in image().items() if key != missing}
    expected = "url, path" if missing == "url" else missing
    said_of = call(capsys, NOBODY, tmp_path, images=[wanted])["msg"]
    assert ("missing" in said_of, expected in said_of) == (True, True)


# --- the action -------------------------------------------------------------------------------------------------------


def piece_of(*wanted: Mapping[str, Any], **variables: Any) -> Slice:
    found = plan(inventory(AIO | {"cloud_images": list(wanted)} | variables), sources.load())
    vault = Vault(bytes(range(32)), {})
    return Slice(found, found.hosts["aio"], sources.load(), Renderer(found, sources.load(), vault.value), vault)


def declared(name: str = "debian", **more: Any) -> dict[str, Any]:
    return {key: value for key, value in image(name, **more).items() if value is not None}


class Task:
    """What an action reads of its task."""

    def __init__(self, check: bool = False) -> None:
        """Take whether it is a dry run."""
        self.args: dict[str, Any] = {}
        self.check_mode, self.delegate_to = check, None


def acting(check: bool = False) -> Any:
    made = action.ActionModule.__new__(action.ActionModule)
    made._task = Task(check)
    return made


def test_the_action_hands_out_what_the_inventory_declares() -> None:
    taken = acting().arguments(piece_of(declared()), {"hosts": ["aio"]})
    assert taken["images"] == [declared()]
    assert (taken["image_url"], taken["compute_url"]) == ("https://192.0.2.11:9292", "https://192.0.2.11:8774/v2.1")
    assert (taken["judge"], taken["folder"], taken["files"]) == (False, "/var/lib/brume/images", {})


def test_without_images_or_the_first_controller_nothing_is_asked() -> None:
    assert acting().arguments(piece_of(), {"hosts": ["aio"]}) is None
    assert acting().arguments(piece_of(declared()), {"hosts": ["compute9"]}) is None


def test_without_nova_it_is_not_asked() -> None:
    piece = piece_of(declared(), brume_services=["keystone", "glance"])
    assert acting().arguments(piece, {})["compute_url"] is None


def running(
    monkeypatch: pytest.MonkeyPatch, check: bool, needed: list[str], *wanted: Mapping[str, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]], list[tuple[str, str]]]:
    """Run the action; return its result, the arguments of each call, and the files that were brought."""
    calls: list[dict[str, Any]] = []
    brought: list[tuple[str, str]] = []
    made, piece = acting(check), piece_of(*wanted)
    shell = type("Shell", (), {"tmpdir": "/tmp/far", "join_path": staticmethod(lambda *parts: "/".join(parts))})()
    made._connection = type("Connection", (), {"_shell": shell})()
    made._display = type("Display", (), {"display": staticmethod(lambda _text: None)})()

    def execute(_self: Any, **given: Any) -> dict[str, Any]:
        calls.append(given["module_args"])
        return {"changed": not given["module_args"]["judge"], "needed": needed}

    monkeypatch.setattr(ActionBase, "run", lambda _self, _tmp, _variables: {})
    monkeypatch.setattr(ActionBase, "_execute_module", execute)
    monkeypatch.setattr(PlanAction, "slice", lambda _self, _variables: piece)
    monkeypatch.setattr(action.ActionModule, "task_variables", lambda _self, _piece: {})
    monkeypatch.setattr(
        ActionBase, "_transfer_file", lambda _self, here, there: (brought.append((here, there)), there)[1]
    )
    return made.run(None, {}), calls, brought


def local(path: Path, name: str = "debian", **more: Any) -> dict[str, Any]:
    return {key: value for key, value in declared(name, path=str(path), **more).items() if key != "url"}


def test_only_files_that_are_needed_are_brought(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "debian").write_bytes(DATA["debian"])
    wanted = [local(tmp_path / "debian"), local(tmp_path / "gone", "there"), declared("far")]
    result, calls, brought = running(monkeypatch, False, ["debian", "far"], *wanted)
    assert (result["changed"], [one["judge"] for one in calls]) == (True, [True, False])
    assert brought == [(str(tmp_path / "debian"), "/tmp/far/image-0")]
    assert calls[1]["files"] == {"debian": "/tmp/far/image-0"}


def test_images_without_files_need_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    result, calls, brought = running(monkeypatch, False, ["debian"], declared())
    assert (result["changed"], [one["judge"] for one in calls], brought) == (True, [False], [])


def test_a_dry_run_brings_nothing_and_tells_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "debian").write_bytes(b"not looked at")
    result, calls, brought = running(monkeypatch, True, ["debian"], local(tmp_path / "debian"))
    assert (result["changed"], [one["judge"] for one in calls], brought) == (True, [False], [])
    result, _calls, _brought = running(monkeypatch, True, ["debian"], local(tmp_path / "none"))
    assert result["msg"] == (
        f"image debian: {tmp_path / 'none'} is no file on the deploy host; correct `path`, or bring it"
    )


def test_a_file_with_other_data_is_not_brought(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "debian").write_bytes(DATA["new"])
    result, calls, brought = running(monkeypatch, False, ["debian"], local(tmp_path / "debian"))
    assert (result["failed"], len(calls), brought) == (True, 1, [])
    assert "correct `checksum` or the file" in result["msg"]
