"""Each line of each pod once, whatever happens to pods, agents and collector while they write."""

from collections import Counter

from e2e_readers import LINE, Api, Cli, Reader, is_exact
from e2e_scene import (
    AGENT,
    COLLECTOR,
    WORKERS,
    are_ready,
    delete_pod,
    kubectl,
    pods_of,
    put_static_pod,
    see,
)
from host import Failed
from machine import Machine

RESERVED = {
    "app", "container", "filename", "job", "namespace", "node", "pod", "service_name", "stream", "volume",
    "workload", "workload_kind",
}  # fmt: skip
"""Labels that do not come from a pod's own."""
KEPT_FILES = 2
"""Rotated files of a log that the kubelet keeps."""
AT_WORK = 300
"""A pod that has written so many lines has begun."""

LabelsByPod = dict[str, dict[str, str]]


def show(cli: Cli, api: Api) -> LabelsByPod:
    """Deletes pods, agents and the collector while all write, then counts. Returns the pods' labels."""
    put_static_pod()
    see("lines are found by label while they are written, from both nodes", lambda: _are_writing(cli))
    labels = labels_of_pods()
    _disturb(cli)
    for pod in pods_of("shop", "app=writer"):
        kubectl("exec", "--namespace=shop", pod["metadata"]["name"], "--", "touch", "/stop")
    _count([cli, api])
    return labels | labels_of_pods()


def _disturb(cli: Cli) -> None:
    """What happens while the writers write."""
    delete_pod("shop", "leaving")
    delete_pod("shop", "ledger-0")
    see("a pod on a claim is there again", lambda: bool(pods_of("shop", "app=ledger")))

    agent = next(it for it in pods_of("taffrail", AGENT) if it["spec"]["nodeName"] == WORKERS[1].name)
    delete_pod("taffrail", agent["metadata"]["name"])
    see("an agent that was deleted is there again", lambda: are_ready(AGENT, len(WORKERS)))
    _await_more_lines(cli, "after it")

    kubectl("delete", "pod", f"--selector={COLLECTOR}", "--namespace=taffrail")
    see("the collector that was deleted is there again", lambda: are_ready(COLLECTOR, 1))
    _await_more_lines(cli, "after it")
    _disturb_without_collector()
    _await_more_lines(cli, "after the collector was away")


def _disturb_without_collector() -> None:
    """The collector stays away for longer than the kubelet keeps what is written, and the agents are
    deleted meanwhile: only what they put aside on their nodes' disks can still be found."""
    kubectl("scale", "deployment", "taffrail-collector", "--namespace=taffrail", "--replicas=0")
    see("the collector is away", lambda: are_ready(COLLECTOR, 0))
    seen = _rotated_files()
    see("the kubelet rotates once", lambda: _have_rotated(seen, 1))
    kubectl("delete", "pods", f"--selector={AGENT}", "--namespace=taffrail")
    see("the agents that were deleted meanwhile are there again", lambda: are_ready(AGENT, len(WORKERS)))
    see("the kubelet removes what was written since", lambda: _have_rotated(seen, KEPT_FILES + 2))
    kubectl("scale", "deployment", "taffrail-collector", "--namespace=taffrail", "--replicas=1")
    see("the collector is there again", lambda: are_ready(COLLECTOR, 1))


def _rotated_files() -> dict[str, set[str]]:
    """The writers' logs that were rotated and are still there, by pod. (A packed one keeps its name.)"""
    found = {}
    for pod in pods_of("shop", "app=writer"):
        disk, own = Machine(pod["spec"]["nodeName"]).root, pod["metadata"]
        folder = disk / f"var/log/pods/shop_{own['name']}_{own['uid']}/writer"
        found[own["name"]] = {it.name.removesuffix(".gz").removesuffix(".tmp") for it in folder.glob("0.log.*")}
    return found


def _have_rotated(seen: dict[str, set[str]], times: int) -> str | bool:
    """Whether each writer's log was rotated so often since. Gathers the names in `seen`, so it must be
    asked more often than the kubelet rotates; the ones there at the beginning count as `KEPT_FILES`."""
    for pod, files in _rotated_files().items():
        seen[pod] |= files
    counts = [len(files) - KEPT_FILES for files in seen.values()]
    return min(counts) >= times and f"{counts} times"


def _await_more_lines(cli: Cli, when: str) -> None:
    """Waits until lines of both writers come that were not there before."""
    before = _found(cli, "app=writer")

    def have_come() -> bool:
        now = _found(cli, "app=writer")
        return len(now) == len(WORKERS) and all(now[pod] > before[pod] + AT_WORK for pod in now)

    see(f"new lines of both nodes come {when}", have_come)


def _are_writing(reader: Reader) -> bool:
    """Whether lines of all that write for long have come, of one writer a node: a node whose agent
    delivers nothing must not go unseen."""
    writers = _found(reader, "app=writer")
    others = [sum(_found(reader, f"app={app}").values()) for app in ("leaving", "ledger")]
    begun = [*writers.values(), *others]
    return len(writers) == len(WORKERS) and min(begun) > AT_WORK


def _found(reader: Reader, selector: str) -> Counter:
    """How many lines were found, by pod."""
    return Counter(labels["pod"] for labels, line in reader.rows(selector) if LINE.match(line))


def _count(readers: list[Reader]) -> None:
    see(
        "each line of the writers exactly once, across rotation and deleted agent and collector",
        lambda: is_exact(readers, "app=writer", pods=len(WORKERS)),
    )
    see("the kubelet has rotated the writers' logs", _are_rotated)
    see("each line of a pod deleted while it wrote exactly once", lambda: is_exact(readers, "app=leaving"))
    see(
        "each line of a file on a claim exactly once, across two pods of the StatefulSet",
        lambda: is_exact(readers, "app=ledger", {"": 1000}),
    )
    several = {"before": 10, "one": 100, "two": 100}
    see(
        "each line of several containers, one of them an init container, exactly once",
        lambda: is_exact(readers, "app=several", several),
    )
    see(
        "each line of static pods exactly once",
        lambda: is_exact(readers, "app=static", {"ticker": 100}, pods=len(WORKERS)),
    )
    see("each line of a crash loop exactly once", lambda: _is_exact_crash(readers))


def _are_rotated() -> str | bool:
    """Whether each writer's log was rotated; the oldest parts are gone already."""
    counts = [len(files) for files in _rotated_files().values()]
    return min(counts, default=0) > 0 and f"{counts} rotated files are left"


def _is_exact_crash(readers: list[Reader]) -> str | bool:
    status = pods_of("shop", "app=crashing")[0]["status"]["containerStatuses"][0]
    restarts = status["restartCount"]
    if "running" in status["state"] or restarts < 2:
        return False
    return is_exact(readers, "app=crashing", {"crashing": restarts + 1})


def labels_of_pods() -> LabelsByPod:
    """What `kubectl get pods --show-labels` says, by pod."""
    lines = kubectl("get", "pods", "--namespace=shop", "--show-labels", "--no-headers").splitlines()
    pods = ((line.split()[0], line.split()[-1]) for line in lines)
    return {pod: dict(it.split("=", 1) for it in labels.split(",")) for pod, labels in pods}


def labels_agree(api: Api, pods: LabelsByPod) -> str | bool:
    """Whether the streams of all pods have those labels, under names that the query languages allow,
    and no others but those that tell where a stream comes from."""
    nodes, seen = set(), set()
    for stream in api.streams():
        pod = stream["pod"]
        wanted = {"".join(c if c.isalnum() else "_" for c in name): value for name, value in pods[pod].items()}
        differing = {name: stream.get(name) for name in wanted if stream.get(name) != wanted[name]}
        unknown = stream.keys() - wanted.keys() - RESERVED
        if differing or unknown:
            raise Failed(f"{pod}: {differing} instead of {wanted}; unknown: {sorted(unknown)}")
        nodes.add(stream["node"])
        seen.add(pod)
    if seen != pods.keys():
        raise Failed(f"no stream of {sorted(pods.keys() - seen)}")
    return nodes == {it.name for it in WORKERS} and f"{len(seen)} pods of {', '.join(sorted(nodes))}"
