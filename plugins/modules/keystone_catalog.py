#!/usr/bin/python
"""Ansible module: Keystone's regions, domains, projects, users, roles, assignments, services and endpoints."""

from __future__ import annotations

DOCUMENTATION = r"""
module: keystone_catalog
short_description: Keep Keystone's regions, projects, users, roles, services and endpoints as described
description:
  - Handles any number of objects in one process with one session. Each type is listed once, only what differs changes.
  - Independent changes are made side by side; a region before its endpoints, a user before its roles.
  - Objects are known by name. A service keeps its identity when its type changes, an endpoint when its URL changes.
  - Objects that are not named here are left alone, except further endpoints of a named service, interface and region.
  - A check mode run reports exactly what the run would do, dependents of objects that do not exist yet included.
  - "Sources: Identity API v3, U(https://docs.openstack.org/api-ref/identity/v3/)."
requirements: [keystoneauth1 (part of every Keystone environment)]
notes:
  - Runs with the Keystone environment's Python (C(ansible_python_interpreter)).
  - Requests go to O(auth.auth_url) itself, not to what the catalog says.
  - >-
    Requests are sent again, five times at most, after a refused or reset connection and HTTP 502, 503 and 504, and
    nothing else. Creations are repeated only when the first attempt certainly did not arrive (refused, 503).
attributes:
  check_mode: {description: "Reports what would change.", support: full}
  diff_mode: {description: "One diff for each changed object, without secrets.", support: full}
extends_documentation_fragment: [brume.cloud.session]
options:
  shared:
    description:
      - Keystone is another cloud's, in which this one is a region.
      - >-
        What the clouds have in common (domains, regions, roles, projects, services) is then made where it is missing
        and never changed; an endpoint of the wanted service, interface and region that leads to another host is an
        error, also with V(state=absent), because it is probably another cloud's.
      - >-
        In check mode, where Python lacks keystoneauth1 because the host has no environment yet, what would change is
        predicted for a Keystone that has what the clouds have in common and nothing of the region. A warning says so.
          Deletions are not predicted then, and fail.
    type: bool
    default: false
  bootstrap_record:
    description:
      - File that a bootstrap, or the first good start of Keystone after one, leaves on this host. Where it is missing
        in check mode, there is no Keystone to ask, and what would change is predicted from what a bootstrap makes.
    type: path
  regions:
    description: Regions. Parents are made first.
    type: list
    elements: dict
    default: []
    suboptions:
      id: {description: "Id, which is the region's name.", type: str, required: true}
      description: {description: "Text; left alone unless given.", type: str}
      parent_region_id: {description: "Region this one lies in; left alone unless given.", type: str}
      state: &state {description: "Whether it is to exist.", type: str, choices: [present, absent], default: present}
  domains:
    description: Domains. One that goes is disabled first, as Keystone demands.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: "Name.", type: str, required: true}
      description: {description: "Text; left alone unless given.", type: str}
      enabled: &enabled {description: "Whether it can be used.", type: bool, default: true}
      state: *state
  projects:
    description: Projects.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: "Name.", type: str, required: true}
      domain: &domain {description: "Name or id of the domain.", type: str, default: Default}
      description: {description: "Text; left alone unless given.", type: str}
      enabled: *enabled
      state: *state
  roles:
    description: Roles.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: "Name.", type: str, required: true}
      domain: {description: "Name or id of the domain of a domain role.", type: str}
      description: {description: "Text; left alone unless given.", type: str}
      state: *state
  users:
    description: Users.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: "Name.", type: str, required: true}
      domain: *domain
      password: {description: "Password; a new user without one cannot log in.", type: str}
      update_password:
        description:
          - V(always) asks Keystone for a token with the password, and sets it if Keystone does not accept it. This is
            one request per user, which costs Keystone a password hash (about 0.2 s of processor time with bcrypt), but
            for those that O(remember) knows.
          - V(on_create) sets it for new users only.
          - The password of a user that is disabled cannot be asked for; it is set when the user is enabled.
        type: str
        choices: [always, on_create]
        default: always
      email: {description: "E-mail address; left alone unless given.", type: str}
      description: {description: "Text; left alone unless given.", type: str}
      default_project: {description: "Name of the default project; left alone unless given.", type: str}
      default_project_domain: {description: "Domain of the default project; the user's own unless given.", type: str}
      options:
        description: User options such as C(ignore_lockout_failure_attempts); those that are not given are left alone.
        type: dict
      enabled: *enabled
      state: *state
  assignments:
    description: Roles of users on exactly one of a project, a domain or the system.
    type: list
    elements: dict
    default: []
    suboptions:
      role: {description: "Name of the role.", type: str, required: true}
      role_domain: {description: "Domain of a domain role.", type: str}
      user: {description: "Name of the user.", type: str, required: true}
      user_domain: {description: "Domain of the user.", type: str, default: Default}
      project: {description: "Name of the project.", type: str}
      project_domain: {description: "Domain of the project.", type: str, default: Default}
      domain: {description: "Name or id of the domain.", type: str}
      system: {description: "The system.", type: str, choices: [all]}
      state: *state
  services:
    description: Services.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: "Name; it identifies the service.", type: str, required: true}
      type: {description: "Type; required unless O(services[].state=absent).", type: str}
      description: {description: "Text; left alone unless given.", type: str}
      enabled: *enabled
      state: *state
  endpoints:
    description: Endpoints, identified by service, interface and region.
    type: list
    elements: dict
    default: []
    suboptions:
      service: {description: "Name of the service.", type: str, required: true}
      interface: {description: "For whom it is.", type: str, choices: [public, internal, admin], required: true}
      region: {description: "Id of the region.", type: str, required: true}
      url:
        description: Address; required unless O(endpoints[].state=absent), with O(shared) then too.
        type: str
      enabled: *enabled
      state: *state
  remember:
    description:
      - File on the host that remembers, with keyed digests, which passwords Keystone accepted. Only root can read it.
      - >-
        A password in it is not asked for again for as long as a token of its age would be valid: until that token's
        expiry, and unless Keystone has a revocation event about the user, which every change of a password makes.
      - Without it every password is asked for. A check mode run reads it and leaves it alone.
      - Remove it after an older database of Keystone was restored.
    type: path
author: Brume developers
"""

EXAMPLES = r"""
- name: Register Placement
  brume.cloud.keystone_catalog:
    auth:
      auth_url: https://internal.example.com:5000/v3
      username: admin
      password: "{{ admin_password }}"
      system_scope: all
      ca_file: /etc/brume/ca.crt
    projects: [{name: service}]
    users: [{name: placement, password: "{{ placement_password }}", default_project: service}]
    assignments: [{role: service, user: placement, project: service}]
    services: [{name: placement, type: placement, description: Placement service}]
    endpoints:
      - {service: placement, interface: internal, region: RegionOne, url: "https://internal.example.com:8778"}
      - {service: placement, interface: public, region: RegionOne, url: "https://api.example.com:8778"}

- name: Register Placement of a second region in the Keystone of the first one
  brume.cloud.keystone_catalog:
    auth: "{{ keystone_auth }}"
    shared: true
    regions: [{id: RegionTwo}]
    services: [{name: placement, type: placement}]
    endpoints:
      - {service: placement, interface: public, region: RegionTwo, url: "https://two.example.com:8778"}

- name: Remove a service; Keystone removes its endpoints with it
  brume.cloud.keystone_catalog:
    auth: "{{ keystone_auth }}"
    services: [{name: heat, state: absent}]
    users: [{name: heat, state: absent}]
"""

RETURN = r"""
actions:
  description: One sentence for each change, the same in check mode and in the run.
  returned: always
  type: list
  elements: str
  sample: ["create service placement", "update endpoint nova public RegionOne (url)"]
msg:
  description: On failure, one line for each object with the message of the API.
  returned: on failure
  type: str
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import catalog, host_lock
from ansible_collections.brume.cloud.plugins.module_utils.api_session import AUTH, ApiError, log_in_or_before
from ansible_collections.brume.cloud.plugins.module_utils.convergence import (
    SIDE_BY_SIDE,
    ConvergenceError,
    converge,
    describe,
    read_marker,
    report,
    write_marker,
)


def _list(**options: dict[str, Any]) -> dict[str, Any]:
    state = {"type": "str", "choices": ["present", "absent"], "default": "present"}
    return {"type": "list", "elements": "dict", "default": [], "options": {**options, "state": state}}


TEXT: dict[str, Any] = {"type": "str"}
REQUIRED: dict[str, Any] = {"type": "str", "required": True}
PASSWORD: dict[str, Any] = {"type": "str", "no_log": True}
DOMAIN: dict[str, Any] = {"type": "str", "default": "Default"}
ENABLED: dict[str, Any] = {"type": "bool", "default": True}

ARGUMENTS: dict[str, dict[str, Any]] = {
    "auth": AUTH,
    "shared": {"type": "bool", "default": False},
    "bootstrap_record": {"type": "path"},
    "regions": _list(id=REQUIRED, description=TEXT, parent_region_id=TEXT),
    "domains": _list(name=REQUIRED, description=TEXT, enabled=ENABLED),
    "projects": _list(name=REQUIRED, domain=DOMAIN, description=TEXT, enabled=ENABLED),
    "roles": _list(name=REQUIRED, domain=TEXT, description=TEXT),
    "users": _list(
        name=REQUIRED,
        domain=DOMAIN,
        password=PASSWORD,
        update_password={"type": "str", "choices": ["always", "on_create"], "default": "always", "no_log": False},
        email=TEXT,
        description=TEXT,
        default_project=TEXT,
        default_project_domain=TEXT,
        options={"type": "dict"},
        enabled=ENABLED,
    ),
    "assignments": {
        **_list(
            role=REQUIRED,
            role_domain=TEXT,
            user=REQUIRED,
            user_domain=DOMAIN,
            project=TEXT,
            project_domain=DOMAIN,
            domain=TEXT,
            system={"type": "str", "choices": ["all"]},
        ),
        "required_one_of": [("project", "domain", "system")],
        "mutually_exclusive": [("project", "domain", "system")],
    },
    "services": {
        **_list(name=REQUIRED, type=TEXT, description=TEXT, enabled=ENABLED),
        "required_if": [("state", "present", ("type",))],
    },
    "endpoints": {
        **_list(
            service=REQUIRED,
            interface={"type": "str", "choices": ["public", "internal", "admin"], "required": True},
            region=REQUIRED,
            url=TEXT,
            enabled=ENABLED,
        ),
        "required_if": [("state", "present", ("url",))],
    },
    "remember": {"type": "path"},
}


def _unasked(desired: dict[str, Any]) -> dict[str, Any]:
    """Return what a registration would change in a Keystone that cannot be asked; nothing of the region is there."""
    return report(catalog.compare(desired, catalog.before_registration(desired), catalog.unreachable, shared=True))


def main() -> None:
    """Fetch, compare, apply unless in check mode, and exit without the arguments, which hold passwords."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS, supports_check_mode=True, no_log=True
    )
    host_lock.hold(module)
    desired, auth, path = module.params, module.params["auth"], module.params["remember"]
    own = ((auth["user_domain_name"], auth["username"]), auth["password"])
    bootstrap, shared = module.params["bootstrap_record"], module.params["shared"]
    try:
        if module.check_mode and bootstrap and not os.path.exists(bootstrap):
            predicted = catalog.compare(desired, catalog.after_bootstrap(desired, auth), catalog.unreachable, own)
            module.exit_json(**report(predicted), invocation={})
        request, authenticate, token = catalog.connect(auth["auth_url"], log_in_or_before(auth, module.check_mode))
        record = read_marker(path) if path else {}
        memory = catalog.remembered(record, auth["password"], token, request)
        actual = catalog.fetch(desired, request, authenticate, own, memory)
        actions = catalog.compare(desired, actual, request, own, shared=shared)
        result = converge(actions, check_mode=module.check_mode, limit=SIDE_BY_SIDE)
        if path and not module.check_mode and memory.record() != record:
            write_marker(path, memory.record(), mode=0o600)
    except ImportError as error:
        made = all(item["state"] == "present" for item in (*desired["users"], *desired["endpoints"]))
        if module.check_mode and shared and made:  # what would be deleted cannot be guessed
            module.warn("the shared Keystone was not asked, because this host has no environment for it yet")
            module.exit_json(**_unasked(desired), invocation={})
        module.fail_json(
            msg=f"{describe(error)}: run this module with the Python of the Keystone environment", invocation={}
        )
    except (ConvergenceError, ApiError, OSError) as error:
        module.fail_json(msg=describe(error), invocation={})
    module.exit_json(**result, invocation={})


if __name__ == "__main__":
    main()
