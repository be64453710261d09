"""The machine `control`: etcd, the API server with its aggregation layer, the controllers with the
autoscaler, the scheduler, and a DNS server of the project's own (`dns.py`)."""

import sys

import layout
from host import Failed, run, wait_until
from machine import Machine

KEYS = (
    "ca.crt", "ca.key", "front-proxy-ca.crt", "sa.key", "sa.pub", "apiserver.crt", "apiserver.key",
    "front-proxy-client.crt", "front-proxy-client.key", "apiserver-kubelet-client.crt",
    "apiserver-kubelet-client.key", "controller-manager.kubeconfig", "scheduler.kubeconfig", "dns.kubeconfig",
)  # fmt: skip

ETCD_CLIENTS, ETCD_PEERS = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
ETCD = f"""\
exec etcd --data-dir=/var/lib/etcd --unsafe-no-fsync --logger=zap \\
  --listen-client-urls={ETCD_CLIENTS} --advertise-client-urls={ETCD_CLIENTS} \\
  --listen-peer-urls={ETCD_PEERS} --initial-advertise-peer-urls={ETCD_PEERS} \\
  --initial-cluster=default={ETCD_PEERS}"""

# The aggregation layer dials a pod behind an extension API's Service, not the Service's address:
# nothing translates Service addresses in this machine.
API_SERVER = f"""\
cd /etc/kubernetes
exec kube-apiserver --etcd-servers={ETCD_CLIENTS} \\
  --advertise-address={layout.CONTROL_ADDRESS} --secure-port=6443 \\
  --client-ca-file=ca.crt --tls-cert-file=apiserver.crt --tls-private-key-file=apiserver.key \\
  --service-account-key-file=sa.pub --service-account-signing-key-file=sa.key \\
  --service-account-issuer=https://kubernetes.default.svc.{layout.CLUSTER_DOMAIN} \\
  --requestheader-client-ca-file=front-proxy-ca.crt --requestheader-allowed-names=front-proxy-client \\
  --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \\
  --requestheader-extra-headers-prefix=X-Remote-Extra- \\
  --proxy-client-cert-file=front-proxy-client.crt --proxy-client-key-file=front-proxy-client.key \\
  --enable-aggregator-routing=true \\
  --kubelet-client-certificate=apiserver-kubelet-client.crt \\
  --kubelet-client-key=apiserver-kubelet-client.key --kubelet-preferred-address-types=InternalIP \\
  --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \\
  --service-cluster-ip-range={layout.SERVICE_RANGE} --allow-privileged=true"""

# The autoscaler looks every 5 s and steps down after 30 s, so that a test need not wait for minutes.
CONTROLLER_MANAGER = """\
cd /etc/kubernetes
exec kube-controller-manager --kubeconfig=controller-manager.kubeconfig \\
  --authentication-kubeconfig=controller-manager.kubeconfig \\
  --authorization-kubeconfig=controller-manager.kubeconfig \\
  --requestheader-client-ca-file=front-proxy-ca.crt \\
  --service-account-private-key-file=sa.key --root-ca-file=ca.crt \\
  --cluster-signing-cert-file=ca.crt --cluster-signing-key-file=ca.key \\
  --use-service-account-credentials=true --leader-elect=false \\
  --horizontal-pod-autoscaler-sync-period=5s --horizontal-pod-autoscaler-initial-readiness-delay=0s \\
  --horizontal-pod-autoscaler-downscale-stabilization=30s"""

SCHEDULER = """\
cd /etc/kubernetes
exec kube-scheduler --kubeconfig=scheduler.kubeconfig --authentication-kubeconfig=scheduler.kubeconfig \\
  --authorization-kubeconfig=scheduler.kubeconfig --leader-elect=false"""


DNS = f"""\
exec {sys.executable} /opt/cluster/dns.py {layout.DNS_ADDRESS} {layout.CLUSTER_DOMAIN} /etc/kubernetes/dns.kubeconfig"""


def prepare(machine: Machine) -> None:
    """Writes the machine's keys and services."""
    for key in KEYS:
        machine.lend_key(key)
    machine.write_services(
        {
            "etcd": ETCD,
            "kube-apiserver": API_SERVER,
            "kube-controller-manager": CONTROLLER_MANAGER,
            "kube-scheduler": SCHEDULER,
            "dns": DNS,
        }
    )


def kubectl(machine: Machine, *arguments: str) -> list[str]:
    """The command line of kubectl as the cluster's administrator, with the host's files at hand."""
    config = f"--kubeconfig={layout.PKI / 'admin.kubeconfig'}"
    return machine.enter_network(layout.KUBERNETES / "kubectl", config, *arguments)


def await_ready(machine: Machine, seconds: float = 120) -> None:
    """Waits until the API server says that it is ready."""

    def answers() -> bool:
        try:
            return run(kubectl(machine, "get", "--raw=/readyz")).strip() == "ok"
        except Failed:
            return False

    wait_until("the API server", answers, seconds)


def node_is_ready(machine: Machine, name: str) -> bool:
    """Whether the API server believes a node to be ready, and reaches its kubelet now."""
    ready = "--output=jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    try:
        believed = run(kubectl(machine, "get", "node", name, ready)) == "True"
        return believed and run(kubectl(machine, "get", f"--raw=/api/v1/nodes/{name}/proxy/healthz")).strip() == "ok"
    except Failed:
        return False
