"""The scene of `e2e`: the cluster, what is installed on it, and how a claim is looked at.

`install` brings Taffrail as users have it; `uninstall` takes it away again, and `Inventory` says
whether anything is left, among the API's objects and on the nodes' disks.
"""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import control_plane
import image
import layout
import node
from host import Failed, run, say
from machine import Machine, run_in

HERE = Path(__file__).resolve().parent
INSTALLATION = HERE / "installation"
PODS = HERE / "e2e.yaml"
STATIC_POD = HERE / "e2e-static.yaml"
CONTROL = Machine("control")
WORKERS = [Machine(it.name) for it in layout.NODES]
PROGRAMS = {"agent": "taffrail-agent", "collector": "taffrail-collector"}

AGENT, COLLECTOR = (f"app.kubernetes.io/name=taffrail-{it}" for it in ("agent", "collector"))
"""Labels of Taffrail's own pods."""
VOLUME = "/var/lib/taffrail-collector"
"""The folder of node1 under the collector's volume."""
FOLDERS = (VOLUME, "/var/lib/ledger")
"""Folders of the nodes that volumes of the test lie in; made here, removed here."""
KEPT = "/var/lib/taffrail-agent"
"""What an installation leaves on each node, as deploy/README.md says."""
PATIENCE = 180.0
"""Seconds for each claim, on a machine that may be busy with other things."""


def kubectl(*arguments: str | Path) -> str:
    return run(control_plane.kubectl(CONTROL, *(str(it) for it in arguments)))


def read(*arguments: str) -> dict:
    return json.loads(kubectl("get", *arguments, "--output=json"))


def pods_of(namespace: str, selector: str) -> list[dict]:
    """The pods with a label; those that are being deleted are no more."""
    found = read("pods", f"--namespace={namespace}", f"--selector={selector}")["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def are_ready(selector: str, count: int) -> bool:
    """Whether so many of Taffrail's own pods are there, and all are ready."""

    def is_ready(pod: dict) -> bool:
        conditions = pod["status"].get("conditions", [])
        return any(it["type"] == "Ready" and it["status"] == "True" for it in conditions)

    found = pods_of("taffrail", selector)
    return len(found) == count and all(is_ready(pod) for pod in found)


def delete_pod(namespace: str, name: str) -> None:
    kubectl("delete", "pod", name, f"--namespace={namespace}")


def see(claim: str, holds: Callable[[], str | bool], patience: float = PATIENCE) -> None:
    """Asks until the answer is true, or a text with figures; then says so, and how long it took."""
    began = time.monotonic()
    while True:
        complaint = ""
        try:
            seen = holds()
        except Failed as error:
            seen, complaint = False, f": {error}"
        took = time.monotonic() - began
        if seen:
            say(f"seen: {claim}{f' ({seen})' if isinstance(seen, str) else ''}, {took:.1f} s")
            return
        if took > patience:
            raise Failed(f"not seen within {patience:.0f} s: {claim}{complaint}")
        time.sleep(0.5)


def install(programs: Path) -> None:
    """Gives the nodes images of the programs and applies the manifests."""
    for name, program in PROGRAMS.items():
        archive = layout.IMAGES / f"e2e-{name}.tar"
        image.of_files(f"taffrail.local/{name}:dev", [str(programs / program)], None).write(archive)
        say(f"image of {program}: {archive.stat().st_size / 1e6:.1f} MB with its libraries")
        for worker in WORKERS:
            node.import_image(worker, archive)
    for worker in WORKERS:
        run_in(worker, "mkdir", "-p", *FOLDERS)
    kubectl("apply", f"--kustomize={INSTALLATION}")


def put_static_pod() -> None:
    """Gives each kubelet a pod that the API server did not order."""
    for worker in WORKERS:
        worker.write(f"{node.STATIC_PODS}/static.yaml", STATIC_POD.read_text())


def uninstall() -> None:
    """Deletes what was applied, in the order of users: their pods, then Taffrail."""
    for worker in WORKERS:
        (worker.root / f"{node.STATIC_PODS}/static.yaml".lstrip("/")).unlink(missing_ok=True)
    kubectl("delete", f"--filename={PODS}", "--ignore-not-found", "--wait=true")
    kubectl("delete", f"--kustomize={INSTALLATION}", "--ignore-not-found", "--wait=true")


def sweep() -> None:
    """Removes what is meant to outlive an installation, and the test's own folders."""
    for worker in WORKERS:
        run_in(worker, "rm", "-rf", KEPT, *FOLDERS)


class Inventory:
    """All objects of the API by kind, and the folders of the nodes' disks that programs keep things in."""

    TRANSIENT = ("events", "events.events.k8s.io", "leases.coordination.k8s.io", "componentstatuses")
    """Kinds that come and go by themselves."""
    CLUSTERS_OWN = re.compile(r"(ServiceAccount|Secret|ConfigMap) (default|kube-[a-z-]+) ")
    """What Kubernetes makes in its own namespaces in the first minutes of a cluster."""
    NODES_OWN = "/var/lib/cni"
    """Made for the first pod of a node, whosoever it is."""

    def __init__(self) -> None:
        kinds = kubectl("api-resources", "--verbs=list", "--output=name").split()
        columns = "--output=custom-columns=K:.kind,S:.metadata.namespace,N:.metadata.name"
        asked = ",".join(it for it in kinds if it not in self.TRANSIENT)
        lines = kubectl("get", asked, "--all-namespaces", "--no-headers", columns).splitlines()
        objects = (" ".join(line.split()) for line in lines)
        self.objects = {it for it in objects if not self.CLUSTERS_OWN.match(it)}
        looking = "ls -d /var/lib/* /var/lib/kubelet/pods/* /var/log/* /var/log/pods/* /etc/* /opt/* || true"
        self.folders = {
            f"{worker.name}:{folder}" for worker in WORKERS for folder in run_in(worker, "sh", "-c", looking).split()
        }

    def left(self, before: "Inventory") -> str | bool:
        """True when nothing is there that was not there before, but for what is meant to stay."""
        meant = {f"{worker.name}:{folder}" for worker in WORKERS for folder in (KEPT, self.NODES_OWN, *FOLDERS)}
        left = (self.objects - before.objects) | (self.folders - before.folders - meant)
        missing = before.objects - self.objects
        if left or missing:
            raise Failed(f"left: {sorted(left)}; missing: {sorted(missing)}")
        return f"{len(self.objects)} objects and {len(self.folders)} folders looked at"


def explain() -> None:
    """Says what a reader of a failed run needs."""
    commands = [
        ("get", "pods", "--all-namespaces", "--output=wide"),
        ("describe", "horizontalpodautoscalers", "--namespace=shop"),
        ("get", "apiservices", "v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io"),
        ("logs", "--namespace=taffrail", f"--selector={COLLECTOR}", "--tail=30"),
        ("logs", "--namespace=taffrail", f"--selector={AGENT}", "--tail=30", "--prefix"),
    ]
    for command in commands:
        try:
            say(f"kubectl {' '.join(command)}\n{kubectl(*command)}")
        except Failed as error:
            say(str(error))
