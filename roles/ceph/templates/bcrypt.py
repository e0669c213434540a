"""What the manager's modules use of bcrypt, in a process of its own.

Each module of ceph-mgr has an interpreter of its own in one process, and all import bcrypt by mgr_util. The real one is
written with PyO3, which only the first of them may import: all others, the autoscaler and RBD's among them, would not
load (github.com/PyO3/pyo3, issue 576; tracker.ceph.com, issue 64213).
"""

import json
import subprocess

_PROGRAM = """
import bcrypt, json, sys
call = json.load(sys.stdin)
values = [one.encode("latin-1") if isinstance(one, str) else one for one in call["values"]]
result = getattr(bcrypt, call["name"])(*values)
print(json.dumps(result.decode("latin-1") if isinstance(result, bytes) else result))
"""


def _call(name, *values):
    words = [one.decode("latin-1") if isinstance(one, bytes) else one for one in values]
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", _PROGRAM],
        input=json.dumps({"name": name, "values": words}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ValueError(done.stderr.strip().splitlines()[-1])
    result = json.loads(done.stdout)
    return result.encode("latin-1") if isinstance(result, str) else result


def gensalt(rounds=12):
    """Return a salt."""
    return _call("gensalt", rounds)


def hashpw(password, salt):
    """Return the hash of a password."""
    return _call("hashpw", password, salt)


def checkpw(password, hashed):
    """Return whether a password has a hash."""
    return _call("checkpw", password, hashed)
