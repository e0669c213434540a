"""How modules that work by OpenStack's APIs run and end: in the host's lock, and without arguments in the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import host_lock
from ansible_collections.brume.cloud.plugins.module_utils.api_session import ApiError
from ansible_collections.brume.cloud.plugins.module_utils.convergence import ConvergenceError, describe
from ansible_collections.brume.cloud.plugins.module_utils.scheduling import SchedulingError


def execute(
    module: Any, service: str, run: Callable[[], dict[str, Any]], lines: Sequence[str] = (), *, lock: bool = True
) -> None:
    """Run a module, an AnsibleModule, and exit with what `run` returns; `service` has the Python that it needs.

    The arguments hold a password, so that no result shows them. `lines` is what a failure says beside its message;
    without `lock` the module only reads.
    """
    if lock:
        host_lock.hold(module)
    try:
        result = run()
    except (ImportError, ConvergenceError, ApiError, SchedulingError, OSError) as error:
        message = describe(error)
        if isinstance(error, ImportError):
            message += f": run this module with the Python of {service}'s environment"
        module.fail_json(msg=message, invocation={}, **({"lines": lines} if lines else {}))
    module.exit_json(**result, invocation={})
