"""An autoscaler follows a metric that pods serve, with nothing configured but the autoscaler."""

import json

from e2e_readers import Api
from e2e_scene import AGENT, WORKERS, kubectl, pods_of, read, see

VERSIONS = ("v1beta1", "v1beta2")


def show() -> None:
    """One pod says how much work waits; the autoscaler adds pods, and takes them away."""
    see("the API server finds both versions of the autoscaling API", are_available)
    see("one worker", lambda: _replicas() == 1)
    see("the metric is told in both versions", _is_told)
    _set_work(40)
    see("the autoscaler went from 1 to 4 pods", lambda: _replicas() == 4)
    _set_work(0)
    see("the autoscaler went from 4 to 1 pod", lambda: _replicas() == 1)
    see("the autoscaler has nothing to complain of", _is_content)


def are_available() -> bool:
    """Whether the API server reaches the collector and knows it by its certificate."""

    def is_available(version: str) -> bool:
        found = read("apiservice", f"{version}.custom.metrics.k8s.io")
        conditions = found.get("status", {}).get("conditions", [])
        secure = found["spec"].get("caBundle") and not found["spec"].get("insecureSkipTLSVerify")
        return bool(secure) and any(it["type"] == "Available" and it["status"] == "True" for it in conditions)

    return all(is_available(it) for it in VERSIONS)


def agents_report(api: Api) -> str | bool:
    """Whether the agents of both nodes tell about themselves, and have nothing left to send."""
    # The series of agents that were deleted are still there, for five minutes.
    agents = {pod["metadata"]["name"] for pod in pods_of("taffrail", AGENT)}

    def by_node(metric: str) -> dict[str, float]:
        told = [it for it in api.values(metric) if it["metric"]["pod"] in agents]
        return {it["metric"]["node"]: float(it["value"][1]) for it in told}

    lines, late = by_node("taffrail_tail_lines_total"), by_node("taffrail_tail_lag_bytes")
    if {it.name for it in WORKERS} != lines.keys() or any(late.values()) or not all(lines.values()):
        return False
    return ", ".join(f"{node}: {count:.0f} lines" for node, count in sorted(lines.items()))


def _is_told() -> bool:
    def value(version: str) -> str:
        path = f"/apis/custom.metrics.k8s.io/{version}/namespaces/shop/pods/*/jobs_waiting"
        return json.loads(kubectl("get", "--raw", path))["items"][0]["value"]

    return all(value(it) == "0" for it in VERSIONS)


def _replicas() -> int:
    return read("deployment", "worker", "--namespace=shop")["status"].get("readyReplicas", 0)


def _is_content() -> bool:
    status = read("horizontalpodautoscalers.v2beta2.autoscaling", "worker", "--namespace=shop")["status"]
    return any(it["type"] == "ScalingActive" and it["status"] == "True" for it in status["conditions"])


def _set_work(amount: int) -> None:
    for pod in pods_of("shop", "app=worker"):
        command = f"echo jobs_waiting {amount} >/www/metrics"
        kubectl("exec", "--namespace=shop", pod["metadata"]["name"], "--", "sh", "-c", command)
