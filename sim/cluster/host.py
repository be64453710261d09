"""The host under the cluster: running commands on it, and finding out whether it will do.

`Unsuitable` is for what the host lacks (the caller says why and ends with 77, "skipped");
`Failed` is for what should have worked and did not (1).
"""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import layout

COMMANDS = ("apt-get", "dpkg", "ip", "mount", "nsenter", "openssl", "pivot_root", "tar", "unshare")
"""What the host must have; with dpkg and util-linux, any Debian or Ubuntu has all but openssl and ip."""

CGROUP_CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")
"""What kubelet 1.20 and runc want to see mounted, each in cgroup version 1."""


class Unsuitable(Exception):
    """The host cannot carry the cluster; the text says what is missing."""


class Failed(Exception):
    """A step that should have worked did not; the text says which and what it printed."""


def say(text: str) -> None:
    """A line of progress. Standard output is left to answers."""
    print(f"cluster: {text}", file=sys.stderr, flush=True)


def run(command: Sequence[str | Path], **options: object) -> str:
    """Runs a command to its end and returns what it printed; raises `Failed` with its complaint."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    except FileNotFoundError as error:
        raise Unsuitable(f"the command {words[0]} is missing") from error
    if done.returncode != 0:
        complaint = (done.stderr or done.stdout).strip()[-2000:]
        raise Failed(f"`{' '.join(words)}` ended with {done.returncode}: {complaint}")
    return done.stdout


def wait_until(what: str, ready: Callable[[], bool], seconds: float) -> None:
    """Asks `ready` five times a second until it says yes; raises `Failed` after `seconds`."""
    give_up = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > give_up:
            raise Failed(f"waited {seconds:.0f} s in vain for {what}; logs are in {layout.STATE}")
        time.sleep(0.2)


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Holds the right to change what `name` says; a second caller waits. Lies in the cache."""
    layout.CACHE.mkdir(parents=True, exist_ok=True)
    with (layout.CACHE / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def require_suitable() -> None:
    """Raises `Unsuitable` with the first reason why the cluster cannot run here."""
    if not sys.platform.startswith("linux"):
        raise Unsuitable("this is not Linux")
    if os.geteuid() != 0:
        raise Unsuitable("namespaces, mounts and cgroups need root")
    if not layout.ARCHITECTURE:
        raise Unsuitable(f"no recipe for this processor ({os.uname().machine})")
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        raise Unsuitable(f"commands are missing: {', '.join(missing)}")
    unmounted = [it for it in CGROUP_CONTROLLERS if not Path("/sys/fs/cgroup", it).is_dir()]
    if unmounted:
        raise Unsuitable(
            f"Kubernetes 1.20 is run on cgroup version 1 and these controllers are not there: {', '.join(unmounted)}"
        )
    for kind in ("bridge", "veth"):
        try:
            run(["unshare", "--mount", "--net", "--pid", "--fork", "--uts", "--ipc", "ip", "link", "add", "type", kind])
        except Failed as error:
            raise Unsuitable(f"namespaces or interfaces of kind {kind} cannot be made: {error}") from error
