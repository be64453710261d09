"""The wire between the machines: a bridge in `control`, one cable to each node, routes to the pods.

Everything is inside the machines' network namespaces; the host's own network is not touched, and
does not reach the cluster (see `cluster enter-network`). A cable ends with the machine at either end.
"""

import layout
from host import Failed, run
from machine import Machine

BRIDGE = "cluster0"
CABLE = "eth0"


def wire_control(control: Machine) -> None:
    """The bridge, the control plane's address, and the one of the cluster's DNS."""
    if _has(control, BRIDGE):
        return
    _ip(control, "link set lo up")
    _ip(control, f"addr add {layout.DNS_ADDRESS}/32 dev lo")
    _ip(control, f"link add {BRIDGE} type bridge")
    _ip(control, f"addr add {layout.CONTROL_ADDRESS}/{layout.PREFIX_LENGTH} dev {BRIDGE}")
    _ip(control, f"link set {BRIDGE} up")
    for node in layout.NODES:
        _ip(control, f"route add {node.pod_range} via {node.address}")


def wire_node(control: Machine, node: layout.Node, machine: Machine) -> None:
    """The cable from a node to the bridge, and the node's routes."""
    if _has(machine, CABLE):
        return
    end = f"to-{node.name}"
    run([
        "nsenter", f"--target={control.holder_pid()}", "--net", "ip", "link", "add", end, "type", "veth",
        "peer", "name", CABLE, "netns", str(machine.holder_pid()),
    ])  # fmt: skip
    _ip(control, f"link set {end} master {BRIDGE} up")
    _ip(machine, "link set lo up")
    _ip(machine, f"addr add {node.address}/{layout.PREFIX_LENGTH} dev {CABLE}")
    _ip(machine, f"link set {CABLE} up")
    _ip(machine, f"route add default via {layout.CONTROL_ADDRESS}")
    for other in layout.NODES:
        if other != node:
            _ip(machine, f"route add {other.pod_range} via {other.address}")


def _ip(machine: Machine, arguments: str) -> None:
    run(["nsenter", f"--target={machine.holder_pid()}", "--net", "ip", *arguments.split()])


def _has(machine: Machine, link: str) -> bool:
    try:
        _ip(machine, f"link show {link}")
    except Failed:
        return False
    return True
