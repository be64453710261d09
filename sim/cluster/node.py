"""A node: containerd, kubelet and kube-proxy in a machine of their own, as on any small server.

Pods get point-to-point links, not ports of a bridge: then every packet between pods passes the
node's routing, where kube-proxy's translation of Service addresses sees both directions.
"""

import json
from pathlib import Path

import cgroups
import layout
from host import Failed, wait_until
from machine import Machine, run_in

LOG_SIZE, LOG_FILES = "100Ki", 3
"""Kubelet's rotation of container logs: so small that a test sees it happen."""
STATIC_PODS = "/etc/kubernetes/manifests"
"""The folder whose pods a kubelet runs without being told to by the API server."""

CONTAINERD = "exec containerd --config=/etc/containerd/config.toml"
KUBELET = """\
until [ -S /run/containerd/containerd.sock ]; do sleep 0.1; done
exec kubelet --config=/etc/kubernetes/kubelet.json --kubeconfig=/etc/kubernetes/{name}.kubeconfig \\
  --hostname-override={name} --node-ip={address} --root-dir=/var/lib/kubelet \\
  --container-runtime=remote --container-runtime-endpoint=unix:///run/containerd/containerd.sock"""
PROXY = "exec kube-proxy --config=/etc/kubernetes/proxy.json"

CONTAINERD_CONFIG = f"""\
version = 2

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{layout.PAUSE_IMAGE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  max_container_log_line_size = 16384

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/opt/debian/usr/lib/cni"
  conf_dir = "/etc/cni/net.d"
"""


def prepare(node: layout.Node, machine: Machine) -> None:
    """Writes the node's keys, settings and services, and makes its control group."""
    cgroups.make(node)
    for key in ("ca.crt", f"{node.name}.crt", f"{node.name}.key", f"{node.name}.kubeconfig", "proxy.kubeconfig"):
        machine.lend_key(key)
    machine.write("/etc/containerd/config.toml", CONTAINERD_CONFIG)
    machine.write("/etc/cni/net.d/10-pods.conflist", json.dumps(_pod_network(node), indent=1))
    machine.write("/etc/kubernetes/kubelet.json", json.dumps(_kubelet(node), indent=1))
    machine.write("/etc/kubernetes/proxy.json", json.dumps(_proxy(node), indent=1))
    (machine.root / STATIC_PODS.lstrip("/")).mkdir(parents=True, exist_ok=True)
    kubelet = KUBELET.format(name=node.name, address=node.address)
    machine.write_services({"containerd": CONTAINERD, "kubelet": kubelet, "kube-proxy": PROXY})


def await_runtime(machine: Machine) -> None:
    """Waits until containerd answers."""

    def answers() -> bool:
        try:
            run_in(machine, "ctr", "version")
        except Failed:
            return False
        return True

    wait_until(f"containerd on {machine.name}", answers, 60)


def import_image(machine: Machine, archive: Path) -> None:
    """Gives a node's containerd an image, as if it had been pulled."""
    with archive.open("rb") as file:
        run_in(machine, "ctr", "--namespace=k8s.io", "images", "import", "-", stdin=file)


def _pod_network(node: layout.Node) -> dict:
    pods = {
        "type": "ptp",
        "ipMasq": False,
        "ipam": {"type": "host-local", "subnet": node.pod_range, "routes": [{"dst": "0.0.0.0/0"}]},
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [pods, ports]}


def _kubelet(node: layout.Node) -> dict:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": "/etc/kubernetes/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"/etc/kubernetes/{node.name}.crt",
        "tlsPrivateKeyFile": f"/etc/kubernetes/{node.name}.key",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroups.group(node),
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "clusterDomain": layout.CLUSTER_DOMAIN,
        "clusterDNS": [layout.DNS_ADDRESS],
        "resolvConf": "/etc/resolv.conf",
        "containerLogMaxSize": LOG_SIZE,
        "containerLogMaxFiles": LOG_FILES,
        # The disk is the host's; how full it is is not for a kubelet to act on.
        "evictionHard": {"imagefs.available": "0%", "memory.available": "50Mi", "nodefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        "makeIPTablesUtilChains": False,
        # The first report says "not yet"; the default is to look again after 10 s.
        "nodeStatusUpdateFrequency": "2s",
        "registryPullQPS": 0,
        "staticPodPath": STATIC_PODS,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    }


def _proxy(node: layout.Node) -> dict:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "hostnameOverride": node.name,
        "clientConnection": {"kubeconfig": "/etc/kubernetes/proxy.kubeconfig"},
        "clusterCIDR": layout.POD_RANGE,
        # Zero leaves the host's limits as they are.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
