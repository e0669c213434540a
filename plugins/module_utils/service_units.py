"""systemd units and uWSGI files, derived from the plan: nobody writes a unit for a service by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.description import Component, Service
from ansible_collections.brume.cloud.plugins.module_utils.plan import Instance, bridge, uwsgi_path

SANDBOX: Mapping[str, Mapping[str, Any]] = {
    # systemd.exec(5). A service that needs no privilege gets none.
    "full": {
        "CapabilityBoundingSet": "",
        "LockPersonality": "true",
        "NoNewPrivileges": "true",
        "PrivateDevices": "true",
        "PrivateTmp": "true",
        "ProtectClock": "true",
        "ProtectControlGroups": "true",
        "ProtectHome": "true",
        "ProtectHostname": "true",
        "ProtectKernelLogs": "true",
        "ProtectKernelModules": "true",
        "ProtectKernelTunables": "true",
        "ProtectSystem": "strict",
        # netlink: clients list the interfaces to see whether IPv6 is there
        "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "RestrictNamespaces": "true",
        "RestrictRealtime": "true",
        "RestrictSUIDSGID": "true",
        "SystemCallArchitectures": "native",
    },
    # Agents that use rootwrap or privsep become root for parts of their work and make mounts (network namespaces)
    # that the host must see; a mount namespace or NoNewPrivileges would break both.
    "privileged": {"LimitNOFILE": "65536"},
}


def unit_text(service: Service, component: Component, environment: str, files: list[str]) -> str:
    """Return the unit of a component; `files` are the configuration files it reads, `environment` its Python's path.

    Keys of the description's `unit` win over what is derived here.
    """
    user = component.user or service.name
    if component.kind == "wsgi":
        command = f"{environment}/bin/uwsgi --ini {uwsgi_path(service, component)}"
    else:
        program = component.command[0]
        # one that begins with a slash is the operating system's
        words = [program if program.startswith("/") else f"{environment}/bin/{program}", *component.command[1:]]
        # what names its configuration itself does not want oslo.config's option
        for file in [] if set(files) & set(words) else files:
            words += ["--config-file", file]
        command = " ".join(words)
    sections: dict[str, dict[str, Any]] = {
        "Unit": {
            "Description": f"{service.description or service.name} ({component.name})",
            "After": "network-online.target",
            "Wants": "network-online.target",
            "StartLimitIntervalSec": "0",
        },
        "Service": {
            "Type": "notify" if component.kind == "wsgi" else "simple",
            "User": user,
            "Group": user,
            "UMask": "0027",
            "WorkingDirectory": f"/var/lib/{service.name}",
            "Environment": [f'"{key}={value}"' for key, value in component.environment.items()],
            "ExecStart": command,
            "Restart": "always",
            "RestartSec": "2",
            "TimeoutStopSec": "30",
            **SANDBOX[component.sandbox],
        },
        "Install": {"WantedBy": "multi-user.target"},
    }
    if component.kind == "wsgi":
        socket = f"{service.name}-{component.name}.socket"
        sections["Unit"] |= {"After": f"network-online.target {socket}", "Requires": socket}
        # The master alone hears of a stop, and lets its workers end their requests; systemd would end all at once.
        sections["Service"]["KillMode"] = "mixed"
    if component.sandbox == "full":
        sections["Service"]["ReadWritePaths"] = f"/var/lib/{service.name}"
    for name, keys in component.unit.items():
        sections.setdefault(name, {}).update(keys)
    return _unit(sections)


def socket_text(service: Service, component: Component, instance: Instance) -> str:
    """Return the socket unit of an API (systemd.socket(5)).

    systemd holds the socket while the API starts anew, so that a request meanwhile waits and none is refused.
    """
    listen = instance.listen
    return _unit(
        {
            "Unit": {"Description": f"{service.description or service.name} ({component.name}), socket"},
            "Socket": {
                "ListenStream": f"{bridge(listen.address)}:{listen.port}" if listen else "",
                "Backlog": "1024",
                # Sockets are made early, before the management address may be there.
                "FreeBind": "true",
            },
            "Install": {"WantedBy": "sockets.target"},
        }
    )


def _unit(sections: Mapping[str, Mapping[str, Any]]) -> str:
    lines = ["# Written by Brume; a change here is overwritten."]
    for name, keys in sections.items():
        lines += ["", f"[{name}]"]
        for key, value in keys.items():
            lines += [f"{key}={_word(item)}" for item in (value if isinstance(value, list) else [value])]
    return "\n".join(lines) + "\n"


def uwsgi_text(component: Component, instance: Instance, environment: str) -> str:
    """Return the uWSGI file of an API: one master, `processes` workers, plain HTTP behind the load balancer.

    The socket is systemd's; uWSGI finds it by its address (LISTEN_FDS). A stop lets requests in progress end, for
    `worker-reload-mercy` seconds at most.
    Each worker loads the application itself (lazy-apps, as upstream runs them): Nova makes thread pools while it
    loads, and threads do not survive a fork. A broken application is found by the roll-out's probe.
    """
    listen = instance.listen
    options: dict[str, Any] = {
        "socket": f"{bridge(listen.address)}:{listen.port}" if listen else None,
        "protocol": "http",
        "module": component.app,
        "virtualenv": environment,
        "master": True,
        "processes": instance.processes,
        "threads": component.threads,
        "enable-threads": True,
        "thunder-lock": True,
        "lazy-apps": True,
        "need-app": True,
        "hook-master-start": "unix_signal:15 gracefully_kill_them_all",
        "buffer-size": 65535,
        "add-header": "Connection: close",
        "disable-logging": True,
        "procname-prefix-spaced": instance.unit.removesuffix(".service"),
        "worker-reload-mercy": 20,
        **component.uwsgi,
    }
    lines = ["# Written by Brume; a change here is overwritten.", "[uwsgi]"]
    for key, value in options.items():
        lines += [f"{key} = {_word(item)}" for item in (value if isinstance(value, list) else [value])]
    return "\n".join(lines) + "\n"


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
