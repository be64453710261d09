"""What Taffrail may do, and who may do what to it: asked of the API server, of the kernel, and tried."""

import base64
import re
import tempfile

import control_plane
import layout
from e2e_scaling import are_available
from e2e_scene import AGENT, COLLECTOR, CONTROL, VOLUME, WORKERS, are_ready, kubectl, pods_of, read, see
from host import Failed, run
from machine import Machine, run_in

GRANTED = {
    "taffrail-agent": {
        "pods [] [] [list watch]",
        "persistentvolumeclaims [] [] [get]",
        "persistentvolumes [] [] [get]",
    },
    "taffrail-collector": {
        f"apiservices.apiregistration.k8s.io [] [{version}.custom.metrics.k8s.io] [get patch]"
        for version in ("v1beta1", "v1beta2")
    },
}
"""All that `kubectl auth can-i --list` may say beyond what every service account may."""
DENIED = (
    ("get", "secrets"), ("list", "configmaps"), ("get", "pods/log"), ("create", "pods/exec"), ("delete", "pods"),
    ("get", "nodes/proxy"), ("list", "nodes"), ("patch", "daemonsets.apps"), ("create", "tokenreviews"),
    ("impersonate", "users"), ("escalate", "clusterroles"), ("list", "persistentvolumes"),
)  # fmt: skip
CAN_READ_ALL = 1 << 2
"""The capability DAC_READ_SEARCH in the kernel's numbers."""
PROXY = f"--cert {layout.PKI}/front-proxy-client.crt --key {layout.PKI}/front-proxy-client.key".split()
STRANGER = f"--cert {layout.PKI}/admin.crt --key {layout.PKI}/admin.key".split()
"""The cluster's administrator, whose certificate is of another CA."""


def show() -> None:
    for account in GRANTED:
        see(f"{account} has the rights that it uses, and no other", lambda it=account: _has_rights(it))
    see("the agents' processes have one capability, and cannot write to their file trees", _agents_are_bound)
    see("the collector's process has no capability and is not root's", _collector_is_bound)
    see("the autoscaling API refuses everybody but the API server", _is_closed)
    run_in(WORKERS[0], "rm", "-r", f"{VOLUME}/autoscale")
    kubectl("delete", "pod", f"--selector={COLLECTOR}", "--namespace=taffrail")
    see("the collector is there again, with a new CA", lambda: are_ready(COLLECTOR, 1))
    see("the API server trusts the new CA", are_available)
    see("the autoscaling API still refuses everybody else", _is_closed)


def _has_rights(account: str) -> str | bool:
    user = f"--as=system:serviceaccount:taffrail:{account}"
    granted = _granted(user) - _granted("--as=system:serviceaccount:taffrail:nobody")
    if granted != GRANTED[account]:
        raise Failed(f"{granted}, not {GRANTED[account]}")
    for verb, resource in DENIED:
        asking = control_plane.kubectl(CONTROL, "auth", "can-i", verb, resource, "--all-namespaces", user)
        # It ends with 1 when it says no.
        answer = run(["sh", "-c", '"$@" || true', "sh", *asking])
        if answer.split()[:1] != ["no"]:
            raise Failed(f"{account} may {verb} {resource}: {answer}")
    return f"{'; '.join(sorted(granted))}; {len(DENIED)} others are denied"


def _granted(user: str) -> set[str]:
    lines = kubectl("auth", "can-i", "--list", "--namespace=taffrail", user).splitlines()[1:]
    # A line without a resource is about a URL.
    return {" ".join([line.split()[0], *re.findall(r"\[[^]]*\]", line)]) for line in lines if not line.startswith(" ")}


def _process(pod: dict) -> tuple[dict[str, str], str]:
    """What the kernel says of the first process of a pod's one container, and how its root is mounted."""
    machine = Machine(pod["spec"]["nodeName"])
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    tasks = run_in(machine, "ctr", "--namespace=k8s.io", "tasks", "list").splitlines()
    pid = next(line.split()[1] for line in tasks if line.startswith(container))
    status = run_in(machine, "cat", f"/proc/{pid}/status").splitlines()
    mounts = run_in(machine, "cat", f"/proc/{pid}/mounts").splitlines()
    root = next(line.split()[3] for line in mounts if line.split()[1] == "/")
    return {name: value.strip() for name, _, value in (line.partition(":") for line in status)}, root


def _is_bound(pod: dict, user: int, capabilities: int) -> str:
    status, root = _process(pod)
    sets = {name: int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")}
    wrong = {name: hex(value) for name, value in sets.items() if value & ~capabilities}
    if wrong or not root.startswith("ro,"):
        raise Failed(f"{pod['metadata']['name']}: {wrong}, root {root}")
    if set(status["Uid"].split()) != {str(user)} or status["NoNewPrivs"] != "1" or status["Seccomp"] != "2":
        raise Failed(f"{pod['metadata']['name']}: user {status['Uid']}, {status['NoNewPrivs']}, {status['Seccomp']}")
    return f"user {user}, capabilities {sets['CapEff']:#x}, no new privileges, system calls filtered, read-only root"


def _agents_are_bound() -> str | bool:
    said = {_is_bound(pod, 0, CAN_READ_ALL) for pod in pods_of("taffrail", AGENT)}
    return ", ".join(said)


def _collector_is_bound() -> str | bool:
    pods = pods_of("taffrail", COLLECTOR)
    return bool(pods) and _is_bound(pods[0], 65532, 0)


def _is_closed() -> str | bool:
    """Whether a request with the API server's certificate is answered, and no other is."""
    pod = pods_of("taffrail", COLLECTOR)[0]
    name, address = "taffrail-collector.taffrail.svc", pod["status"]["podIP"]
    bundle = read("apiservice", "v1beta2.custom.metrics.k8s.io")["spec"]["caBundle"]
    url = f"https://{name}:4143/apis/custom.metrics.k8s.io/v1beta2"

    def ask(*certificate: str) -> str:
        with tempfile.NamedTemporaryFile() as trusted:
            trusted.write(base64.b64decode(bundle))
            trusted.flush()
            asking = ["curl", "--silent", "--show-error", "--max-time", "5", "--cacert", trusted.name]
            asking += ["--resolve", f"{name}:4143:{address}", *certificate, url]
            return run(["sh", "-c", '"$@" 2>&1 || echo "refused: $?"', "sh", *CONTROL.enter_network(*asking)])

    if "APIResourceList" not in (answer := ask(*PROXY)):
        raise Failed(f"the API server's certificate is refused: {answer}")
    for who, certificate in (("nobody", []), ("the administrator", STRANGER)):
        if "refused: " not in (answer := ask(*certificate)):
            raise Failed(f"{who} is answered: {answer}")
    return "no certificate, and one of another CA"
