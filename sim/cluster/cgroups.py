"""The control groups of the nodes' pods: one folder in every hierarchy, removed when the cluster ends."""

import contextlib
import os
from pathlib import Path

import layout

ROOT = Path("/sys/fs/cgroup")


def group(node: layout.Node) -> str:
    """The group under which a node's kubelet makes those of its pods."""
    return f"/{layout.STATE.name}/{node.name}"


def make(node: layout.Node) -> None:
    """Makes a node's group in every hierarchy, with all processors and memory of the host."""
    for hierarchy in _hierarchies():
        folder = hierarchy / group(node).lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            for made in (folder.parent, folder):
                if hierarchy.name == "cpuset" and not (made / setting).read_text().strip():
                    (made / setting).write_text((hierarchy / setting).read_text())


def remove() -> None:
    """Removes all groups of the cluster. Their processes must have ended."""
    for folder in left():
        for path, _, _ in os.walk(folder, topdown=False):
            with contextlib.suppress(OSError):
                Path(path).rmdir()


def left() -> list[Path]:
    """The cluster's folders that are still there."""
    return [path for it in _hierarchies() if (path := it / layout.STATE.name).is_dir()]


def _hierarchies() -> list[Path]:
    """Where each hierarchy is mounted; links to them, such as `cpu,cpuacct`, are left out."""
    return [it for it in sorted(ROOT.iterdir()) if not it.is_symlink() and (it / "cgroup.procs").exists()]
