"""apt on the way to another suite: what it would do is asked aside, before the host's own sources name that suite."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import tempfile
from collections.abc import Iterator, Sequence

from ansible_collections.brume.cloud.plugins.module_utils import apt, operating_system
from ansible_collections.brume.cloud.plugins.module_utils.convergence import atomic_write
from ansible_collections.brume.cloud.plugins.module_utils.preflight import BUILT, free_bytes, parse_os_release

FOLDER = "/etc/apt"
OS_RELEASE = "/etc/os-release"
ARCHIVES = "/var/cache/apt/archives"
PROGRAMS = "/usr"


class Suite:
    """The suite that a host is to have, and the one that it comes from (empty where none leads there)."""

    def __init__(self, former: str, suite: str, options: Sequence[str]) -> None:
        """Read nothing yet; `options` are apt-get's."""
        self.former, self.suite, self.options = former, suite, list(options)
        self._debian: set[str] | None = None

    def codename(self) -> str:
        """Return the host's suite; on the way, that of the package base-files. Raises OSError."""
        with open(OS_RELEASE, encoding="utf-8") as stream:
            return parse_os_release(stream.read()).get("VERSION_CODENAME", "")

    def debian(self) -> set[str]:
        """Return the URIs from which apt has read lists of Debian's own, asked once. Raises AptError."""
        if self._debian is None:
            done = apt.run(["apt-get", "indextargets", "--format", operating_system.TARGETS, "Created-By: Packages"])
            if done.code:
                raise apt.failure("apt-get indextargets", done)
            self._debian = operating_system.parse_targets(done.output)
        return self._debian

    def sources(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the files of sources, path -> text, as they are and as they are to be. Raises AptError, OSError."""
        paths = [f"{FOLDER}/sources.list", *sorted(glob.glob(f"{FOLDER}/sources.list.d/*"))]
        texts = {}
        for path in paths:
            # Others are not read by apt (sources.list(5)).
            if path.endswith((".list", ".sources")) and os.path.isfile(path):
                with open(path, encoding="utf-8") as stream:
                    texts[path] = stream.read()
        own = self.debian() if self.former else set()
        names = self.former, self.suite
        return texts, {path: operating_system.rewrite(text, own, *names) for path, text in texts.items()}

    def rewritten(self) -> dict[str, str]:
        """Return path -> text of the files that name Debian's own former suites. Raises AptError, OSError."""
        texts, moved = self.sources()
        return {path: text for path, text in moved.items() if text != texts[path]}

    @contextlib.contextmanager
    def aside(self) -> Iterator[list[str]]:
        """Let apt see the new suite while the block runs; yields its options. Raises AptError.

        Sources and lists lie in folders that go with the block. Where the host's own sources name the suite already,
        nothing is read anew.
        """
        texts, moved = self.sources()
        if moved == texts:
            yield []
            return
        with tempfile.TemporaryDirectory(prefix="brume-sources-", dir="/var/tmp") as folder:
            os.chmod(folder, 0o755)  # noqa: S103  # apt fetches as a user of its own
            os.mkdir(f"{folder}/sources.list.d", 0o755)
            for path, text in moved.items():
                target = f"{folder}/{os.path.relpath(path, FOLDER)}"
                with open(target, "w", encoding="utf-8") as stream:
                    stream.write(text)
                os.chmod(target, 0o644)
            words = ["-o", f"Dir::Etc::sourcelist={folder}/sources.list"]
            words += ["-o", f"Dir::Etc::sourceparts={folder}/sources.list.d"]
            with apt.lists_read_aside([*self.options, *words]) as lists:
                yield [*words, *lists]

    def apply(self) -> list[str]:
        """Let the host's own sources name the suite, and read its lists. Return what a person is told. Raises AptError.

        Lists are read in any case: an earlier run may have been cut off in between.
        """
        changed = self.rewritten()
        for path, text in changed.items():
            atomic_write(path, text, mode=os.stat(path).st_mode & 0o7777)
        apt.update(self.options)
        self._debian = None
        return [f"let {path} name {self.suite}" for path in changed]

    def read(
        self,
        changes: Sequence[apt.Change],
        options: Sequence[str],
        planned: Sequence[str],
        environments: Sequence[str],
        left: str,
    ) -> operating_system.Reading:
        """Return what stands in the way of `changes`; `options` let apt see the suite. Raises AptError."""
        _texts, moved = self.sources()
        own = self.debian()
        entries = [one for text in moved.values() for one in operating_system.entries(text)]
        named = {suite for uri, suite in entries if uri.rstrip("/") in own}
        removed = [one.name for one in changes if one.removed]
        ssh = next((one.old for one in changes if one.name == operating_system.SSH and one.old), "")
        older = ["dpkg", "--compare-versions", ssh, "lt", operating_system.SSH_VERSION]
        old = bool(ssh) and apt.run(older).code == 0
        return operating_system.Reading(
            codename=self.codename(),
            foreign=tuple(operating_system.foreign(moved, self.former)),
            own=bool(named & {self.suite, "stable"}),
            held=tuple(apt.run(["apt-mark", "showhold"]).output.split()),
            pinned=tuple(self.pinned()),
            lost=tuple(self.lost(removed, planned)),
            old_ssh=ssh if old else "",
            space=self.space(options) if changes else {},
            releases=tuple(other_releases(environments)),
            left=left,
        )

    def pinned(self) -> list[str]:
        """Return the files of apt's preferences that name the former suite."""
        found = []
        for path in (f"{FOLDER}/preferences", *sorted(glob.glob(f"{FOLDER}/preferences.d/*"))):
            if self.former and os.path.isfile(path):
                with open(path, encoding="utf-8", errors="replace") as stream:
                    found += [path] if re.search(rf"^[^#\n]*\b{self.former}\b", stream.read(), re.MULTILINE) else []
        return found

    def lost(self, removed: Sequence[str], planned: Sequence[str]) -> list[str]:
        """Return those of the packages that apt would remove that somebody wants."""
        if not removed:
            return []
        form = "${Package}\t${Section}\n"
        lines = apt.run(["dpkg-query", "-W", "-f", form, "--", *removed]).output.splitlines()
        sections = dict(line.partition("\t")[::2] for line in lines if "\t" in line)
        manual = {name.partition(":")[0] for name in apt.run(["apt-mark", "showmanual"]).output.split()}
        return operating_system.lost(removed, manual, sections, planned)

    def space(self, options: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return folder -> bytes that fetching and unpacking take, and that are free there. Raises AptError."""
        words = ["apt-get", *self.options, *options, "-qq", "--print-uris", "--no-install-recommends", "dist-upgrade"]
        done = apt.run(words)
        if done.code:
            raise apt.failure("apt-get --print-uris, to see how much is to be fetched,", done)
        size = operating_system.fetched_bytes(done.output)
        needed = {ARCHIVES: size, PROGRAMS: size * operating_system.UNPACKED}
        if os.stat(ARCHIVES).st_dev == os.stat(PROGRAMS).st_dev:
            needed = {PROGRAMS: sum(needed.values())}
        return {path: (one, free_bytes(path)) for path, one in needed.items()}


def other_releases(environments: Sequence[str]) -> list[str]:
    """Return the releases of OpenStack that have complete environments beside those planned (`<release>-<digest>`)."""
    found = set()
    for path in environments:
        planned = os.path.basename(path).rpartition("-")[0]
        for marker in glob.glob(f"{os.path.dirname(path)}/*/{BUILT}"):
            found.add(os.path.basename(os.path.dirname(marker)).rpartition("-")[0])
        found.discard(planned)
    return sorted(found - {""})
