#!/usr/bin/python
"""Which broker it is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: message_broker
short_description: Tells a RabbitMQ broker from one that was made anew in its place
description:
  - Reads what the broker's cluster calls itself. It stays over restarts, newer versions and members that come and go; a
    broker whose data was removed, or that was installed anew, has another one.
  - M(brume.cloud.unit_rollout) starts units anew that have started with another broker. Nothing is changed.
options:
  required: {description: Whether to fail where the broker does not say it., type: bool, default: false}
attributes:
  check_mode: {support: full, description: It only reads.}
  diff_mode: {support: none, description: It changes nothing.}
author: [Brume contributors]
"""

EXAMPLES = r"""
- name: Ask which broker it is
  brume.cloud.message_broker:
"""

RETURN = r"""
broker:
  description: The broker's identity; empty where it does not run. In check mode, other words where it has no data yet.
  type: str
  returned: success
  sample: rabbitmq-cluster-id-nnNFX6CjbdyO1wKD2ZQxkQ
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.brume.cloud.plugins.module_utils import messaging

REMEDY = "see why on that host (`journalctl -u rabbitmq-server`), and run again"


def main() -> None:
    """Ask."""
    module = AnsibleModule(
        argument_spec={"required": {"type": "bool", "default": False}}, supports_check_mode=True
    )
    broker, problem = messaging.UNBORN, ""
    if not (module.check_mode and messaging.is_fresh()):
        try:
            broker = messaging.identity(messaging.export_definitions(messaging.connect()))
            problem = "" if broker else f"its definitions have no {messaging.CLUSTER_ID}"
        except messaging.MessagingError as error:
            broker, problem = "", str(error)
    text = f"the broker does not say which one it is, so that units that started with another one stay: {problem}"
    if problem and module.params["required"]:
        module.fail_json(msg=f"{text}\n  next: {REMEDY}", invocation={})
    if problem:
        module.warn(text)
    module.exit_json(changed=False, broker=broker, invocation={})


if __name__ == "__main__":
    main()
