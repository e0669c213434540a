"""A backup of the deployed cloud, as an operator makes it, and its restore into a throw-away server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def playbook(where: str, *options: str) -> str:
    """Run backup.yml; return what it said. Fails with it where it fails."""
    program = Path(sys.executable).with_name("ansible-playbook")
    command = [str(program), "-i", where, "playbooks/backup.yml", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_backup_can_be_restored(where: str, tmp_path: Path) -> None:
    store = ["-e", f"backup_path={tmp_path}/store"]
    playbook(where, *store, "--check")
    assert not (tmp_path / "store").exists()
    playbook(where, *store)
    (full,) = (tmp_path / "store").iterdir()
    assert full.stat().st_mode & 0o777 == 0o700 and full.name.endswith("-full")
    assert (full / "database").read_bytes().startswith(b"age-encryption.org/v1\n")
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in full.iterdir())
    playbook(where, *store, "-e", "backup_kind=incremental")
    newest = max(path.name for path in (tmp_path / "store").iterdir())
    assert newest.endswith("-incremental")
    assert f"{newest} can be restored" in playbook(where, *store, "--tags", "test")
