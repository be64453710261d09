"""Shows that a running cluster is one: pods run, log, find and reach each other, and are measured.

Every claim is looked for until it holds or its time is over; the first that never holds fails.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import image
import layout
import node
from control_plane import kubectl
from host import Failed, run, say
from machine import Machine

MANIFEST = Path(__file__).resolve().parent / "check.yaml"
EXTENSION_IMAGE = "taffrail.local/check-extension:1"
EXTENSION_PATH = "/apis/check.taffrail.dev/v1"
EXTENSION_ANSWER = {
    "kind": "APIResourceList",
    "apiVersion": "v1",
    "groupVersion": "check.taffrail.dev/v1",
    "resources": [],
}
WEB = "http://web.check.svc.cluster.local"
PATIENCE = 90.0
"""Seconds for each claim. Kubelet looks at the sizes of logs every 10 s."""


def run_all(control: Machine, workers: list[Machine]) -> None:
    """Applies the manifest, tries every claim, and deletes what was applied."""
    _give_extension(workers)

    def is_accepted() -> bool:
        # Bare pods are refused until the namespace's service account is made, a moment later.
        return bool(run(kubectl(control, "apply", f"--filename={MANIFEST}")))

    try:
        for claim, holds in ({"the manifest is accepted": is_accepted} | _claims(control)).items():
            began = time.monotonic()
            _await(claim, holds)
            say(f"seen: {claim} ({time.monotonic() - began:.1f} s)")
    finally:
        run(kubectl(control, "delete", f"--filename={MANIFEST}", "--ignore-not-found", "--wait=true"))


def _claims(control: Machine) -> dict[str, Callable[[], bool]]:
    """What is to be seen, in words, with the way to see it."""

    def ask(*arguments: str) -> str:
        return run(kubectl(control, "--namespace=check", *arguments))

    def fetch(pod: str, url: str) -> str:
        return ask("exec", pod, "--", "timeout", "3", "wget", "-q", "-O", "-", url)

    def fetch_web(pod: str, kind: str, field: str) -> bool:
        address = ask("get", kind, "web", f"--output=jsonpath={{{field}}}")
        return "served by web" in fetch(pod, f"http://{address}")

    def fetch_version() -> bool:
        token = "Authorization: Bearer $(cat /var/run/secrets/kubernetes.io/serviceaccount/token)"
        command = f'wget -q -O - --header "{token}" https://{layout.API_SERVICE_ADDRESS}/version'
        return "gitVersion" in ask("exec", "other-node", "--", "sh", "-c", command)

    def is_ready(pod: str) -> bool:
        return ask("get", "pod", pod, "--output=jsonpath={.status.conditions[?(@.type=='Ready')].status}") == "True"

    def fetch_extension() -> bool:
        return json.loads(ask("get", "--raw", EXTENSION_PATH)) == EXTENSION_ANSWER

    def fetch_measures() -> bool:
        return 'pod="web"' in ask("get", "--raw", "/api/v1/nodes/node1/proxy/metrics/cadvisor")

    claims = {"a pod is ready": lambda: is_ready("web")}
    for pod in ("same-node", "other-node", "on-host-network"):
        claims |= {
            f"{pod} reaches a pod's address": lambda pod=pod: fetch_web(pod, "pod", ".status.podIP"),
            f"{pod} reaches a Service's address": lambda pod=pod: fetch_web(pod, "service", ".spec.clusterIP"),
            f"{pod} finds a Service by name": lambda pod=pod: "served" in fetch(pod, WEB),
        }
    return claims | {
        "a pod reaches itself through its Service": lambda: "served" in fetch("web", "http://web"),
        "a pod reaches the API server": fetch_version,
        "the API server reaches an extension API in a pod": fetch_extension,
        "kubelet measures containers": fetch_measures,
        "a pod's log is read": lambda: "response:200" in ask("logs", "web"),
        "a log is rotated": lambda: _is_rotated(json.loads(ask("get", "pod", "writer", "--output=json"))),
    }


def _is_rotated(pod: dict) -> bool:
    disk = Machine(pod["spec"]["nodeName"]).root
    logs = disk / f"var/log/pods/check_writer_{pod['metadata']['uid']}/writer"
    return any(logs.glob("0.log.*"))


def _give_extension(workers: list[Machine]) -> None:
    """Makes an image of the host's openssl, a certificate and one answer, and gives it to the nodes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        answer = json.dumps(EXTENSION_ANSWER)
        (folder / "answer").write_text(f"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{answer}")
        run([
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=extension", "-days", "3650",
            "-keyout", folder / "tls.key", "-out", folder / "tls.crt",
        ])  # fmt: skip
        files = {
            "/usr/bin/openssl": Path(shutil.which("openssl")),
            "/srv/tls.key": folder / "tls.key",
            "/srv/tls.crt": folder / "tls.crt",
            f"/srv{EXTENSION_PATH}": folder / "answer",
        }
        archive = folder / "image.tar"
        image.Image(EXTENSION_IMAGE, files, ["/usr/bin/openssl"]).write(archive)
        for worker in workers:
            node.import_image(worker, archive)


def _await(claim: str, holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE
    while True:
        complaint = "it is not so"
        try:
            if holds():
                return
        except Failed as error:
            complaint = str(error)
        if time.monotonic() > give_up:
            raise Failed(f"not seen within {PATIENCE:.0f} s: {claim}: {complaint}")
        time.sleep(0.5)
