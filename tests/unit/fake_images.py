"""A Glance in memory that keeps the rules of its API, so that predictions can be tried."""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ansible_collections.brume.cloud.plugins.module_utils.api_session import ApiError

PROJECT = "p1"


class Killed(BaseException):
    """The run is killed at this request."""


class Glance:
    """`calls` holds every change in order; with `kill` the run dies at a change, before or after it arrived.

    `uploaded` counts the bytes that came in, `busy` names stores to which copies fail, `wrong` are formats that Glance
    finds other content for, `damaged` is what arrives in place of the data.
    """

    def __init__(self, page: int = 0, stores: Sequence[str] = ("file",)) -> None:
        """Start empty. `page` limits lists, as Glance's `api_limit_max` does; 0 does not."""
        self.page, self.stores = page, list(stores)
        self.images: dict[str, dict[str, Any]] = {}
        self.instances: set[str] = set()
        self.calls: list[str] = []
        self.asked: list[str] = []
        self.uploaded = 0
        self.busy: set[str] = set()
        self.wrong: set[str] = set()
        self.damaged: bytes | None = None
        self.pending: dict[str, int] = {}
        """Looks at an image until its copies are there."""
        self.numbers = itertools.count(1)
        self.kill: tuple[int, bool] | None = None
        self.lock = threading.RLock()

    # --- what a test looks at ---

    def of(self, name: str, hidden: bool = False) -> list[dict[str, Any]]:
        """Return the images of a name that are hidden, or not."""
        return [one for one in self.images.values() if one["name"] == name and one["os_hidden"] == hidden]

    def foreign(self, name: str, data: bytes, **more: Any) -> dict[str, Any]:
        """Make an image by hand."""
        number = f"foreign-{next(self.numbers)}"
        record = self._new(number, {"name": name, "disk_format": "qcow2", "container_format": "bare"})
        self.images[number] = {**record, **self._content(data), "stores": self.stores[0], **more}
        return self.images[number]

    # --- requests ---

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Answer one request; raises ApiError as Glance refuses."""
        with self.lock:
            address = urlsplit(path)
            query = {name: value[0] for name, value in parse_qs(address.query).items()}
            parts = [unquote(part) for part in address.path.strip("/").split("/")]
            if method == "GET":
                self.asked.append(path)
                found: dict[str, Any] = json.loads(json.dumps(self._read(parts, query)))
                return found
            text = f"{method} {address.path} {json.dumps(body, sort_keys=True) if body else ''}".strip()
            return self._dying(text, lambda: self._change(method, parts, body or {}))

    def compute(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Answer one request of Nova's."""
        query = {name: value[0] for name, value in parse_qs(urlsplit(path).query).items()}
        assert (method, query["all_tenants"], query["limit"]) == ("GET", "true", "1")
        return {"servers": [{"id": "server"}] if query["image"] in self.instances else []}

    def patch(self, path: str, operations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Change an image."""
        with self.lock:
            text = f"PATCH {path} {json.dumps(operations)}"
            return self._dying(text, lambda: self._patched(unquote(path.rpartition("/")[2]), operations))

    def upload(self, name: str, path: str, file: str, store: str) -> None:
        """Take an image's data from a file."""
        self.take(path, Path(file).read_bytes(), store)

    def take(self, path: str, data: bytes, store: str) -> None:
        """Take an image's data."""
        with self.lock:
            number = unquote(path.split("/")[3])
            assert path == f"/v2/images/{number}/file"

            def arrived() -> dict[str, Any]:
                record = self._found(number)
                self._refuse_if(record["status"] != "queued", "Image status transition is not allowed", 409)
                self._refuse_if(bool(store) and store not in self.stores, f"Store {store} is unknown", 400)
                self._refuse_if(record["disk_format"] in self.wrong, "Image content does not match disk_format", 415)
                self.uploaded += len(data)
                record |= {**self._content(data if self.damaged is None else self.damaged)}
                record["stores"] = store or self.stores[0]
                return {}

            if self.kill == (len(self.calls) + 1, False):  # while the data come in
                self._found(number)["status"] = "saving"
            self._dying(f"PUT {path}", arrived)

    def _dying(self, text: str, answer: Any) -> dict[str, Any]:
        at = self.kill[0] if self.kill else 0
        if at and len(self.calls) + 1 > at:
            raise Killed
        self.calls.append(text)
        dies = bool(at) and len(self.calls) == at
        if dies and self.kill is not None and not self.kill[1]:
            raise Killed
        found: dict[str, Any] = json.loads(json.dumps(answer() or {}))
        if dies:
            raise Killed
        return found

    @staticmethod
    def _refuse_if(wrong: bool, message: str, status: int) -> None:
        if wrong:
            raise ApiError(f"{message} (HTTP {status})", status)

    def _found(self, number: str) -> dict[str, Any]:
        self._refuse_if(number not in self.images, f"Failed to find image {number}", 404)
        return self.images[number]

    @staticmethod
    def _content(data: bytes) -> dict[str, Any]:
        return {
            "status": "active",
            "size": len(data),
            "os_hash_algo": "sha512",
            "os_hash_value": hashlib.sha512(data).hexdigest(),
        }

    def _new(self, number: str, body: Mapping[str, Any]) -> dict[str, Any]:
        defaults = {
            "visibility": "shared", "protected": False, "os_hidden": False, "min_disk": 0, "min_ram": 0, "tags": [],
            "os_hash_algo": None, "os_hash_value": None, "size": None, "file": f"/v2/images/{number}/file",
            "self": f"/v2/images/{number}", "schema": "/v2/schemas/image",
        }  # fmt: skip
        created = f"2026-01-01T00:{len(self.images):02}:00Z"
        return {**defaults, **body, "id": number, "owner": PROJECT, "status": "queued", "created_at": created}

    # --- reading ---

    def _read(self, parts: list[str], query: dict[str, str]) -> dict[str, Any]:
        if parts == ["v2", "images"]:
            assert query["visibility"] == "all", "community images are images too"
            hidden = query["os_hidden"] == "true"
            fits = [
                one
                for one in self.images.values()
                if one["owner"] == query["owner"] and one["os_hidden"] == hidden
            ]
            if not self.page:
                return {"images": fits}
            begin = [one["id"] for one in fits].index(query["marker"]) + 1 if "marker" in query else 0
            found = fits[begin : begin + self.page]
            text = f"/v2/images?visibility=all&os_hidden={query['os_hidden']}&owner={query['owner']}&marker="
            return {"images": found, **({"next": f"{text}{found[-1]['id']}"} if len(found) == self.page else {})}
        assert parts[:2] == ["v2", "images"] and len(parts) == 3
        record = self._found(parts[2])
        if parts[2] in self.pending:
            self.pending[parts[2]] -= 1
            if not self.pending[parts[2]]:
                self._copied(record)
        return record

    def _copied(self, record: dict[str, Any]) -> None:
        wanted = record.pop("os_glance_importing_to_stores").split(",")
        record.pop("os_glance_import_task")
        del self.pending[record["id"]]
        failed = [one for one in wanted if one in self.busy]
        if failed:  # all_stores_must_succeed takes back the others
            record["os_glance_failed_import"] = ",".join(failed)
            return
        record["stores"] = ",".join([*record["stores"].split(","), *wanted])

    # --- changing ---

    def _change(self, method: str, parts: list[str], body: Mapping[str, Any]) -> dict[str, Any] | None:
        if method == "POST" and parts == ["v2", "images"]:
            for key in body:
                self._refuse_if(key.startswith("os_glance_"), f"Attribute '{key}' is reserved.", 403)
                assert key not in ("stores", "status", "owner", "os_hash_value")
            number = f"image-{next(self.numbers)}"
            self.images[number] = self._new(number, body)
            return self.images[number]
        if method == "POST":
            assert parts[3] == "import"
            return self._import(self._found(parts[2]), body)
        assert method == "DELETE"
        if parts[1] == "stores":
            record = self._found(parts[3])
            stores = record["stores"].split(",")
            self._refuse_if(len(stores) == 1, "Cannot delete image data from the only store containing it.", 403)
            stores.remove(parts[2])
            record["stores"] = ",".join(stores)
            return None
        record = self._found(parts[2])
        self._refuse_if(record["protected"], f"Image {parts[2]} is protected and cannot be deleted.", 403)
        del self.images[parts[2]]
        return None

    def _import(self, record: dict[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
        assert body["method"] == {"name": "copy-image"} and body["all_stores_must_succeed"] is True
        self._refuse_if(record["status"] != "active", "Only images with status active can be targeted for copying", 409)
        self._refuse_if("os_glance_import_task" in record, "Image has active task", 409)
        for store in body["stores"]:
            self._refuse_if(store not in self.stores, f"Store {store} is unknown", 409)
            self._refuse_if(store in record["stores"].split(","), f"Image is already present at store '{store}'", 400)
        record |= {"os_glance_import_task": "t", "os_glance_importing_to_stores": ",".join(body["stores"])}
        self.pending[record["id"]] = 2
        return {}

    def _patched(self, number: str, operations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        record = self._found(number)
        for one in operations:
            key = one["path"].removeprefix("/").replace("~1", "/").replace("~0", "~")
            assert "/" not in one["path"][1:]
            self._refuse_if(key.startswith("os_glance_"), f"Attribute '{key}' is reserved.", 403)
            self._refuse_if(key in ("disk_format", "container_format", "stores", "status"), f"{key} is read-only", 403)
            if one["op"] == "remove":
                self._refuse_if(key not in record, f"Property {key} does not exist.", 409)
                del record[key]
            else:
                assert one["op"] == "add"
                record[key] = one["value"]
        return record
