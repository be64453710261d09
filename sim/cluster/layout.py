"""Where everything lives and what everything is called: paths, addresses, names.

Two folders belong to the cluster and nothing outside them is written:

- the cache, dear to make and kept: Debian packages unpacked, Kubernetes built;
- the state, cheap and thrown away by `down`: certificates, the machines' disks, logs.

The cluster is three machines on one bridge. `control` carries the bridge (10.99.0.1), etcd and the
control plane; `node1` and `node2` (10.99.0.11, .12) each run a kubelet and own 10.244.N.0/24.
"""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("TAFFRAIL_CLUSTER_CACHE") or Path.home() / ".cache/taffrail/cluster").absolute()
STATE = Path(os.environ.get("TAFFRAIL_CLUSTER_DIR") or "/var/tmp/taffrail-cluster").absolute()

DEBIAN = CACHE / "debian"
"""Debian packages that run in the machines, unpacked. Seen inside a machine as `/opt/debian`."""
KUBERNETES = CACHE / "kubernetes"
"""The Kubernetes programs. Seen inside a machine as `/opt/kubernetes`."""
PKI = STATE / "pki"
IMAGES = STATE / "images"

CONTROL_ADDRESS = "10.99.0.1"
PREFIX_LENGTH = 24
POD_RANGE = "10.244.0.0/16"
SERVICE_RANGE = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
DNS_ADDRESS = "10.96.0.10"
API_SERVER = f"https://{CONTROL_ADDRESS}:6443"
CLUSTER_DOMAIN = "cluster.local"

PAUSE_IMAGE = "taffrail.local/pause:1"
BUSYBOX_IMAGE = "taffrail.local/busybox:1"

LIBRARY_FOLDERS = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}
"""Debian's library folder by what the kernel calls the processor."""
GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""The same processors as Go, Debian and the image format call them."""

LIBRARY_FOLDER = LIBRARY_FOLDERS.get(platform.machine(), "")
ARCHITECTURE = GO_ARCHITECTURES.get(platform.machine(), "")


@dataclass(frozen=True)
class Node:
    """One worker, known by its number."""

    number: int

    @property
    def name(self) -> str:
        return f"node{self.number}"

    @property
    def address(self) -> str:
        return f"10.99.0.{10 + self.number}"

    @property
    def pod_range(self) -> str:
        return f"10.244.{self.number}.0/24"


NODES = (Node(1), Node(2))
