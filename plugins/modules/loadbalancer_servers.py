#!/usr/bin/python
"""Servers behind HAProxy, out of use and back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: loadbalancer_servers
short_description: Takes servers out of a running HAProxy in order, and puts them back
description:
  - V(drain) lets no new request go to a server and waits for those in progress. V(ready) undoes it and waits until
    HAProxy finds the server well.
  - The last server that is in use is left in use, because a request that waits is better than one that is refused.
  - A reload of HAProxy forgets the state, so that nothing stays out of use for ever.
options:
  servers:
    description: Names as HAProxy shows them, C(backend/server). Those it does not know are left out.
    type: list
    elements: str
    required: true
  state: {description: What they shall be., type: str, choices: [drain, ready], required: true}
  drained:
    description: In check mode, servers that a run would have drained by now.
    type: list
    elements: str
    default: []
  may_be_down:
    description: Whether a HAProxy that does not run has nothing to drain, since a run that was cut off has stopped it.
    type: bool
    default: false
  seconds:
    description:
      - How long to wait. Long requests, such as an upload, go on after that with what the API's stop leaves them.
      - A server that is not well by then fails the task with V(ready).
    type: float
    default: 30
attributes:
  check_mode: {support: full, description: Tells which servers would change.}
  diff_mode: {support: none}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Take a controller's API out of use
  brume.cloud.loadbalancer_servers:
    servers: [keystone-api/controller1]
    state: drain
"""

RETURN = r"""
actions:
  description: One sentence for each change, the same in check mode and in a run.
  type: list
  elements: str
  returned: success
  sample: [drain keystone-api/controller1]
drained:
  description: With V(drain), the servers that were taken out of use, or would be.
  type: list
  elements: str
  returned: success
busy:
  description: Servers that still had sessions when the time was up.
  type: list
  elements: str
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import haproxy


def _read(check_mode: bool, may_be_down: bool) -> dict[str, haproxy.Server]:
    """Return what the load balancer tells of its servers. Raises HaproxyError.

    On a host that is being added a dry run finds no load balancer yet, which has nothing out of use.
    """
    try:
        return haproxy.parse(haproxy.call("show stat"))
    except haproxy.HaproxyError as error:
        absent = (FileNotFoundError, ConnectionRefusedError) if may_be_down else (FileNotFoundError,)
        if (check_mode or may_be_down) and isinstance(error.__cause__, absent):
            return {}
        raise


def main() -> None:
    """Read, change, wait."""
    module = AnsibleModule(
        argument_spec={
            "servers": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": ["drain", "ready"], "required": True},
            "drained": {"type": "list", "elements": "str", "default": []},
            "may_be_down": {"type": "bool", "default": False},
            "seconds": {"type": "float", "default": 30},
        },
        supports_check_mode=True,
    )
    state, names, seconds = module.params["state"], module.params["servers"], module.params["seconds"]
    busy: list[str] = []
    try:
        found = _read(module.check_mode, module.params["may_be_down"] and state == "drain")
        if module.check_mode:
            found |= {name: haproxy.Server("DRAIN", 0) for name in module.params["drained"]}
        changing = haproxy.to_change(state, names, found)
        if state == "drain":
            changing = haproxy.dispensable(changing, found)
        if not module.check_mode:
            for name in changing:
                answer = haproxy.call(f"set server {name} state {state}").strip()
                if answer:
                    raise haproxy.HaproxyError(f"{name}: {answer}")
            busy = haproxy.wait(state, changing, seconds) if changing else []
    except haproxy.HaproxyError as error:
        module.fail_json(msg=str(error), invocation={})
    if busy and state == "ready":
        module.fail_json(
            msg=f"{', '.join(busy)}: not well for the load balancer after {seconds:.0f} s\n"
            "  next: `echo show stat | socat - /run/haproxy/admin.sock` on this host says what its check finds",
            invocation={},
        )
    module.exit_json(
        changed=bool(changing),
        actions=[f"{state} {name}" for name in changing],
        drained=changing if state == "drain" else [],
        busy=busy,
        invocation={},
    )


if __name__ == "__main__":
    main()
