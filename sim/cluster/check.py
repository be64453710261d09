"""Shows that a running cluster is one: pods run, log, find and reach each other, and are measured.

Every claim is looked for until it holds or its time is over; the first that never holds fails.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import layout
from control_plane import kubectl
from host import Failed, run, say
from machine import Machine

MANIFEST = Path(__file__).resolve().parent / "check.yaml"
PATIENCE = 90.0
"""Seconds for each claim. Kubelet looks at the sizes of logs every 10 s."""


def run_all(control: Machine) -> None:
    """Applies the manifest, tries every claim, and deletes what was applied."""
    run(kubectl(control, "apply", f"--filename={MANIFEST}"))
    try:
        for claim, holds in _claims(control).items():
            began = time.monotonic()
            _await(claim, holds)
            say(f"seen: {claim} ({time.monotonic() - began:.1f} s)")
    finally:
        run(kubectl(control, "delete", f"--filename={MANIFEST}", "--wait=true"))


def _claims(control: Machine) -> dict[str, Callable[[], bool]]:
    def ask(*arguments: str) -> str:
        return run(kubectl(control, "--namespace=check", *arguments))

    def fetch(pod: str, url: str) -> str:
        return ask("exec", pod, "--", "wget", "-q", "-T", "2", "-O", "-", url)

    def address(kind: str, field: str) -> str:
        return ask("get", kind, "web", f"--output=jsonpath={{{field}}}")

    web = "served by web"
    token = 'wget -q -O - --header "Authorization: Bearer $(cat /var/run/secrets/kubernetes.io/serviceaccount/token)"'
    api = f"{token} https://{layout.API_SERVICE_ADDRESS}/version"
    claims = {
        "a pod is ready": lambda: address("pod", ".status.conditions[?(@.type=='Ready')].status") == "True",
        "kubectl logs and exec": lambda: "line 2999" in ask("logs", "writer", "--tail=1"),
        "a container log was rotated": lambda: _rotated(ask),
        "a pod reaches the API server": lambda: "v1.20.2" in ask("exec", "other-node", "--", "sh", "-c", api),
    }
    for pod in ("same-node", "other-node", "on-host-network"):
        claims |= {
            f"{pod} reaches a pod's address": lambda pod=pod: web in fetch(pod, f"http://{address('pod', '.status.podIP')}:8080"),
            f"{pod} reaches a Service's address": lambda pod=pod: web in fetch(pod, f"http://{address('service', '.spec.clusterIP')}"),
            f"{pod} reaches a Service's name": lambda pod=pod: web in fetch(pod, "http://web.check.svc.cluster.local"),
        }
    claims["a pod reaches itself through its Service"] = lambda: web in fetch("web", "http://web")
    claims["kubelet measures containers"] = lambda: 'pod="web"' in ask(
        "get", "--raw", "/api/v1/nodes/node1/proxy/metrics/cadvisor"
    )
    return claims


def _rotated(ask: Callable[..., str]) -> bool:
    pod = json.loads(ask("get", "pod", "writer", "--output=json"))
    disk = Machine(pod["spec"]["nodeName"]).root
    logs = disk / f"var/log/pods/check_writer_{pod['metadata']['uid']}/writer"
    return any(logs.glob("0.log.*"))


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
