#!/usr/bin/python
"""Ansible module: Glance's images."""

from __future__ import annotations

DOCUMENTATION = r"""
module: glance_images
short_description: Keep Glance's images as described
description:
  - Handles any number of images in one process with one session. They are listed once, only what differs changes.
  - Images are known by name among those of the project that logs in, and those that are not named here are left alone.
  - >-
    The data of an image never change in Glance. Where O(images[].checksum) or a format differs from what is there, an
    image is made anew, and the one before is hidden; it stays for instances that were made from it.
  - >-
    An image is made hidden and marked. It is shown when its data are verified and in all its stores. What an
    interrupted run has left is known by the mark, deleted, and made again.
  - Data are fetched to this host, verified there, uploaded, and verified again by what Glance says of them.
  - >-
    Sources: Image API, U(https://docs.openstack.org/api-ref/image/v2/), and
    U(https://docs.openstack.org/glance/latest/user/os_hidden.html).
requirements: [keystoneauth1 (part of every environment of Glance)]
notes:
  - Runs with the Python of Glance's environment (C(ansible_python_interpreter)).
  - >-
    O(folder) needs room for two images at a time. Its file C(progress) can be followed (C(tail -F)) while they travel.
  - >-
    Requests are sent again, five times at most, after a refused or reset connection and HTTP 502, 503 and 504, and
    nothing else. Creations are repeated only when the first attempt certainly did not arrive (refused, 503); uploads
    never.
attributes:
  check_mode:
    description: Reports what would change, and fetches and uploads nothing; before there is a Glance, everything.
    support: full
  diff_mode: {description: "One diff for each changed image.", support: full}
extends_documentation_fragment: [brume.cloud.session]
options:
  image_url: {description: "Address of the Image API, without its version.", type: str, required: true}
  compute_url:
    description: Address of the Compute API, with its version. Without, no image counts as used by instances.
    type: str
  start_record:
    description:
      - File that the first good start of the API leaves on this host. Where it is missing in check mode and the API
        cannot be asked, there is none yet, and what would change is predicted as for an empty Glance.
    type: path
  folder:
    description: Folder of this module alone for data on their way; its content is deleted at the begin and the end.
    type: path
    required: true
  files:
    description: Files on this host, by name of image, with the data of images that have O(images[].path). They go.
    type: dict
    default: {}
  judge:
    description: Whether only RV(needed) is wanted and nothing is to change.
    type: bool
    default: false
  images:
    description: Images. Options that are not given are left alone; a new image gets Glance's defaults.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: "Name.", type: str, required: true}
      url: {description: "Where its data are fetched from (http, https).", type: str}
      path: {description: "File with its data on the deploy host, which brings it here by O(files).", type: path}
      checksum:
        description: >-
          C(sha256:) or C(sha512:) and the hexadecimal digits of its data; required unless
          O(images[].state=absent). An image that somebody else has uploaded is recognized by C(sha512:) alone.
        type: str
      disk_format: {description: "Such as qcow2, raw, iso; required as O(images[].checksum).", type: str}
      container_format: {description: "It follows from O(images[].disk_format) unless given.", type: str}
      visibility: {description: "Who sees it.", type: str, choices: [public, private, shared, community]}
      architecture: {description: "Architecture, such as x86_64.", type: str}
      os_distro: {description: "Distribution, such as debian.", type: str}
      os_version: {description: "Version of the distribution.", type: str}
      min_disk: {description: "Smallest disk in GiB.", type: int}
      min_ram: {description: "Least memory in MiB.", type: int}
      properties: {description: "Properties, such as hw_disk_bus; others are deleted.", type: dict}
      kernel: {description: "Name of the image of the list that is its kernel.", type: str}
      ramdisk: {description: "Name of the image of the list that is its RAM disk.", type: str}
      stores:
        description: Names of the stores that have its data, no more and no less; the first one takes the upload.
        type: list
        elements: str
      protected: {description: "Whether nobody can delete it.", type: bool}
      tags: {description: "Tags; others are deleted.", type: list, elements: str}
      replace:
        description: >-
          What becomes of images whose name another one has got. With C(delete), those that this module has uploaded
          are deleted as soon as no instance is made from them, and are hidden until then.
        type: str
        choices: [hide, delete]
        default: hide
      state:
        description: >-
          Whether it is to exist. With C(absent), all images of that name are deleted; those that instances were made
          from are hidden, and deleted by a later run.
        type: str
        choices: [present, absent]
        default: present
author: Brume developers
"""

EXAMPLES = r"""
- name: One image, and the end of another
  brume.cloud.glance_images:
    auth: "{{ keystone_auth }}"
    image_url: https://internal.example.com:9292
    folder: /var/lib/brume/images
    images:
      - name: debian
        url: https://images.example.org/debian-13-generic-amd64.qcow2
        checksum: sha512:{{ debian_sha512 }}
        disk_format: qcow2
        visibility: public
        min_disk: 3
        properties: {hw_disk_bus: scsi, hw_scsi_model: virtio-scsi}
      - {name: debian-12, state: absent}
"""

RETURN = r"""
actions:
  description: One sentence for each change, the same in check mode and in the run.
  returned: success
  type: list
  elements: str
  sample: [create image debian, update image debian (0d8f4a4e-4bb4-4aa5-8f8e-4f3c0b7a9b1d) (os_hidden)]
needed: {description: "Images whose data are uploaded.", returned: success, type: list, elements: str}
msg:
  description: On failure, one line for each image with what is wrong and what to do.
  returned: on failure
  type: str
"""

import contextlib
import os
import shutil
from functools import partial
from typing import Any, BinaryIO, cast

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import image_files, images
from ansible_collections.brume.cloud.plugins.module_utils.api_module import execute
from ansible_collections.brume.cloud.plugins.module_utils.api_session import (
    AUTH,
    FIRST_ERROR,
    ONCE,
    ApiError,
    Session,
    error_message,
    log_in_or_before,
    requests_to,
    unreachable,
)
from ansible_collections.brume.cloud.plugins.module_utils.convergence import ConvergenceError, apply_actions, report

TEXTS = ("url", "checksum", "disk_format", "container_format", "architecture", "os_distro", "os_version")
ARGUMENTS: dict[str, dict[str, Any]] = {
    "auth": AUTH,
    "image_url": {"type": "str", "required": True},
    "compute_url": {"type": "str"},
    "start_record": {"type": "path"},
    "folder": {"type": "path", "required": True},
    "files": {"type": "dict", "default": {}},
    "judge": {"type": "bool", "default": False},
    "images": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            **{name: {"type": "str"} for name in (*TEXTS, *images.REFERENCES)},
            "path": {"type": "path"},
            "visibility": {"type": "str", "choices": ["public", "private", "shared", "community"]},
            **{name: {"type": "int"} for name in ("min_disk", "min_ram")},
            "properties": {"type": "dict"},
            **{name: {"type": "list", "elements": "str"} for name in ("stores", "tags")},
            "protected": {"type": "bool"},
            "replace": {"type": "str", "choices": ["hide", "delete"], "default": "hide"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        "required_if": [
            ("state", "present", ("checksum", "disk_format")),
            ("state", "present", ("url", "path"), True),
        ],
        "mutually_exclusive": [("url", "path")],
    },
}
AT_ONCE = 2
"""Images that are made side by side; each takes a file's room and hashes with a processor."""

UPLOAD_SECONDS = 600
"""Longest wait for an answer after the last byte was sent; stores finish their work then."""


def upload(
    session: Session, base: str, progress: image_files.Progress, name: str, path: str, file: str, store: str
) -> None:
    """Send an image's file to a path of the API, for a store. Raises ApiError and OSError."""
    headers = {"Content-Type": "application/octet-stream", **({"x-image-meta-store": store} if store else {})}
    with open(file, "rb") as stream:
        tell = partial(progress.tell, name, "uploaded")
        data = image_files.Counted(cast("BinaryIO", stream), tell)
        answer = session.send("PUT", f"{base}{path}", None, data=data, headers=headers, timeout=UPLOAD_SECONDS)
    if answer.status_code >= FIRST_ERROR:
        raise ApiError(error_message(answer), answer.status_code)


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Fetch, compare and apply unless in check mode. Raises ConvergenceError, ApiError, OSError and ImportError."""
    record, items, folder = params["start_record"], params["images"], params["folder"]
    may_lack = check_mode and bool(record) and not os.path.exists(record)
    progress = image_files.Progress(os.path.join(folder, image_files.PROGRESS))
    base = params["image_url"].rstrip("/")
    glance = images.Glance(unreachable("Glance"), lambda *_any: {}, lambda *_any: None)
    try:
        session = log_in_or_before(params["auth"], check_mode, **(ONCE if may_lack else {}))
        patch: Any = requests_to(session, base, {"Content-Type": images.PATCH_TYPE})
        glance = images.Glance(
            requests_to(session, base), partial(patch, "PATCH"), partial(upload, session, base, progress)
        )
        compute = requests_to(session, params["compute_url"]) if params["compute_url"] else None
        actual = images.fetch(items, glance.request, session.project, compute)
    except (ApiError, ConvergenceError, OSError, ImportError):
        if not may_lack:
            raise
        actual = images.Actual()
    obtain = partial(image_files.obtained, folder=folder, files=params["files"], progress=progress)
    actions = images.compare(items, actual, glance, obtain)
    result = {**report(actions), "needed": images.needed(items, actual)}
    if params["judge"]:
        return {**result, "changed": False}
    if not check_mode and actions:
        image_files.prepare(folder)
        try:
            apply_actions(actions, AT_ONCE)
        finally:
            with contextlib.suppress(OSError):
                shutil.rmtree(folder)
    return result


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, no_log=True)
    execute(module, "Glance", lambda: run(module.params, module.check_mode))


if __name__ == "__main__":
    main()
