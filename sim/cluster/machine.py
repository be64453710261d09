"""A machine: network, mount, process, host name and IPC namespaces around busybox init.

Invariants:
- All of a machine's processes and mounts live in its namespaces, and the namespaces live by one
  process of the host, whose number is in the pid file. When that process is killed the kernel kills
  every process of the machine and drops every mount and interface. Nothing is looked up by name.
- What outlives that is the machine's folder, and its control groups (see `cgroups`).
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import layout
from host import Failed, run, wait_until

HERE = Path(__file__).resolve().parent
PATH = "/opt/kubernetes:/opt/debian/usr/sbin:/opt/debian/usr/bin:/opt/debian/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {
    "PATH": PATH,
    "HOME": "/root",
    "LD_LIBRARY_PATH": f"/opt/debian/usr/lib/{layout.LIBRARY_FOLDER}",
    "XTABLES_LIBDIR": f"/opt/debian/usr/lib/{layout.LIBRARY_FOLDER}/xtables",
}

KERNEL_SWITCHES = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What a kubelet insists on reading in /proc/sys, and would otherwise write for the whole host."""


class Machine:
    """One machine, running or not. Its folder holds its disk (`root`), pid file and console log."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = layout.STATE / "machines" / name
        self.root = self.folder / "root"
        self._pid_file = self.folder / "holder.json"

    def write(self, path: str, content: str, mode: int = 0o644) -> None:
        """Writes a file of the machine's disk, given by its path inside."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(mode)

    def lend_key(self, name: str) -> None:
        """Gives the machine a copy of one file of the keys, as `/etc/kubernetes/NAME`."""
        self.write(f"/etc/kubernetes/{name}", (layout.PKI / name).read_text(), 0o600)

    def write_services(self, services: dict[str, str]) -> None:
        """Sets what init keeps running, by name: each a line of shell that ends in one program.

        The output of a service is in `/var/log/NAME.log`, where the host finds it too.
        """
        exports = "".join(f"export {name}={value}\n" for name, value in ENVIRONMENT.items())
        for name, command in services.items():
            log = f"/var/log/machine/{name}.log"
            self.write(f"/etc/machine/services/{name}", f"#!/bin/sh\nexec >>{log} 2>&1\n{exports}{command}\n", 0o755)
        self.write("/etc/inittab", "".join(f"::respawn:/etc/machine/services/{name}\n" for name in services))
        (self.root / "var/log/machine").mkdir(parents=True, exist_ok=True)

    def start(self) -> subprocess.Popen:
        """Starts the machine up to where it waits for its network; `go` lets it continue."""
        self._write_base()
        with (self.folder / "console.log").open("a") as console:
            holder = subprocess.Popen(
                ["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--propagation", "private",
                 "--fork", "--kill-child", "/bin/sh", HERE / "machine-init.sh", self.root, self.name],
                stdin=subprocess.PIPE, stdout=console, stderr=console, cwd="/", start_new_session=True,
            )  # fmt: skip
        self._pid_file.write_text(json.dumps({"pid": holder.pid, "started": _start_time(holder.pid)}))
        wait_until(f"the namespaces of {self.name}", lambda: holder.poll() is not None or self.init_pid() > 0, 10)
        return holder

    def go(self, holder: subprocess.Popen) -> None:
        """Tells a machine that its network is there. Raises `Failed` if it did not live to hear it."""
        try:
            holder.stdin.write(b"go\n")
            holder.stdin.close()
        except BrokenPipeError:
            pass
        wait_until(f"{self.name} to start", lambda: holder.poll() is not None or self._has_moved_in(), 10)
        if holder.poll() is not None:
            raise Failed(f"{self.name} did not start; see {self.folder / 'console.log'}")

    def holder_pid(self) -> int:
        """The process that the machine lives by; 0 when the machine is not running."""
        try:
            noted = json.loads(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return 0
        return noted["pid"] if _start_time(noted["pid"]) == noted["started"] else 0

    def init_pid(self) -> int:
        """The machine's init, as the host numbers it; 0 when there is none."""
        holder = self.holder_pid()
        try:
            children = Path(f"/proc/{holder}/task/{holder}/children").read_text().split()
        except FileNotFoundError:
            return 0
        return int(children[0]) if children else 0

    def enter(self, *command: str | Path) -> list[str]:
        """The command line that runs `command` inside the machine."""
        pid = self._require_init()
        settings = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
        return [
            "nsenter", f"--target={pid}", "--mount", "--net", "--pid", "--uts", "--ipc",
            "env", "--chdir=/", *settings, *map(str, command),
        ]  # fmt: skip

    def enter_network(self, *command: str | Path) -> list[str]:
        """The command line that runs a program of the host, with its files, in the machine's network."""
        return ["nsenter", f"--target={self._require_init()}", "--net", *map(str, command)]

    def stop(self) -> None:
        """Ends every process of the machine at once, and waits until the kernel is done with them."""
        holder, init = self.holder_pid(), self.init_pid()
        for pid in (holder, init):
            if pid:
                os.kill(pid, signal.SIGKILL)
        # A child of this very process would stay as a zombie until it is waited for.
        wait_until(f"{self.name} to end", lambda: not _lives(holder) and not _lives(init), 30)
        self._pid_file.unlink(missing_ok=True)

    def remove_disk(self) -> None:
        """Forgets the machine's files. Only for a machine that does not run."""
        if self.holder_pid():
            raise Failed(f"{self.name} still runs; its disk is kept")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _require_init(self) -> int:
        pid = self.init_pid()
        if not pid:
            raise Failed(f"{self.name} is not running; `cluster up` starts it")
        return pid

    def _has_moved_in(self) -> bool:
        try:
            return Path(f"/proc/{self.init_pid()}/root/etc/inittab").samefile(self.root / "etc/inittab")
        except OSError:
            return False

    def _write_base(self) -> None:
        self.write("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
        self.write("/etc/group", "root:x:0:\nnogroup:x:65534:\n")
        self.write("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n")
        self.write("/etc/resolv.conf", "")
        for switch, value in KERNEL_SWITCHES.items():
            self.write(f"/etc/machine/kernel/{switch}", f"{value}\n")
        lent = {layout.DEBIAN: "/opt/debian", layout.KUBERNETES: "/opt/kubernetes", HERE: "/opt/cluster"}
        if not Path(sys.base_prefix).is_relative_to("/usr"):
            lent[Path(sys.base_prefix)] = sys.base_prefix
        self.write("/etc/machine/lent", "".join(f"{source} {target}\n" for source, target in lent.items()))
        for folder in ("root", "var/lib", "var/log"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)


def run_in(machine: Machine, *command: str | Path, **options: object) -> str:
    """Runs a command inside a machine to its end."""
    return run(machine.enter(*command), **options)


def strays() -> list[int]:
    """Processes whose file tree is a machine's disk, whether or not a pid file knows them."""
    disks = str(layout.STATE / "machines")
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            lines = (folder / "mountinfo").read_text().splitlines()
        except OSError:
            continue
        if any(disks in line for line in lines):
            found.append(int(folder.name))
    return found


def _start_time(pid: int) -> str:
    """When a process started, in the kernel's ticks: tells it from a later one of the same number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _lives(pid: int) -> bool:
    """Whether a process is there and is not merely waiting to be noticed as dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False
