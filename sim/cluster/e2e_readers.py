"""How `e2e` finds lines: by the command-line program, and by the API that Grafana asks; and how it
tells whether each is there exactly once.

Both ask the collector's Service from a node, as a client in the cluster would.
"""

import json
import re
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Protocol
from urllib.parse import urlencode

from e2e_scene import WORKERS, read
from host import Failed, run

Row = tuple[dict[str, str], str]
"""A line with its labels."""

PAGE = 5000
"""Lines that the API gives at once."""
HOUR = 3600 * 10**9
BEGINNING = time.time_ns() - 2 * HOUR
"""No line of the test is older: what an earlier test left is removed before this one."""


class Reader(Protocol):
    name: str

    def rows(self, selector: str) -> list[Row]:
        """All lines of the pods with a label (`app=writer`) in the namespace `shop`."""


def _address() -> str:
    service = read("service", "taffrail-collector", "--namespace=taffrail")
    return f"http://{service['spec']['clusterIP']}:4100"


class Cli:
    """`taffrail logs`."""

    name = "CLI"

    def __init__(self, program: Path) -> None:
        self.command = WORKERS[1].enter_network(str(program), "--addr", _address())

    def rows(self, selector: str) -> list[Row]:
        asked = [*self.command, "logs", "-l", selector, "--namespace=shop", "--since=2h", "--tail=100000", "-o", "json"]
        # The program ends with 1 when nothing was found.
        text = run(["sh", "-c", '"$@" || [ $? = 1 ]', "sh", *asked])
        found = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        return [(it["labels"], it["line"]) for it in found]


class Api:
    """Loki's and Prometheus' APIs over HTTP."""

    name = "API"

    def __init__(self) -> None:
        self.command = WORKERS[0].enter_network("curl", "--silent", "--show-error", "--fail", "--max-time", "60")
        self.address = _address()

    def get(self, path: str, **query: str | int) -> dict:
        return json.loads(run([*self.command, f"{self.address}{path}?{urlencode(query)}"]))["data"]

    def rows(self, selector: str) -> list[Row]:
        name, value = selector.split("=")
        query = f'{{namespace="shop",{name}="{value}"}}'
        start, found = BEGINNING, []
        while True:
            page = self._page(query, start)
            if len(page) < PAGE:
                return [(labels, line) for _, labels, line in found + page]
            # The last moment may have more lines than came: they are asked for again, all of them.
            last = page[-1][0]
            if last == start:
                raise Failed(f"more than {PAGE} lines have the time {last}: they cannot be paged through")
            found += [it for it in page if it[0] < last]
            start = last

    def _page(self, query: str, start: int) -> list[tuple[int, dict, str]]:
        limits = {"start": start, "end": time.time_ns() + HOUR, "limit": PAGE, "direction": "forward"}
        answer = self.get("/loki/api/v1/query_range", query=query, **limits)
        lines = [(int(at), it["stream"], line) for it in answer["result"] for at, line, *_ in it["values"]]
        return sorted(lines, key=lambda it: it[0])

    def streams(self) -> list[dict[str, str]]:
        """The labels of all streams of the namespace `shop`."""
        limits = {"start": BEGINNING, "end": time.time_ns() + HOUR}
        return self.get("/loki/api/v1/series", **{"match[]": '{namespace="shop"}'}, **limits)

    def values(self, query: str) -> list[dict]:
        """What a query of metrics answers now."""
        return self.get("/api/v1/query", query=query)["result"]


LINE = re.compile(r"line (\d+)( last)?\b")

Numbers = dict[tuple[str, str], Counter]
"""How often each number was found, by pod and container; files of volumes have no container."""


def numbers(rows: list[Row]) -> tuple[Numbers, dict[tuple[str, str], int]]:
    """The numbers that were found, and the one that says to be the last."""
    found: Numbers = defaultdict(Counter)
    last: dict[tuple[str, str], int] = {}
    for labels, line in rows:
        read_as = LINE.match(line)
        if not read_as:
            raise Failed(f"a line that nobody wrote: {line!r}")
        of = labels["pod"], labels.get("container", "")
        found[of][int(read_as[1])] += 1
        if read_as[2]:
            last[of] = int(read_as[1])
    return found, last


def complaint(found: Counter, count: int) -> str:
    """What is wrong with the numbers of one container that wrote 0 to `count` - 1; empty when nothing is."""
    wanted = set(range(count))
    missing, more = sorted(wanted - found.keys()), sorted(found.keys() - wanted)
    double = sorted(it for it, times in found.items() if times > 1)
    if missing or more or double:
        return f"{len(missing)} missing {missing[:3]}, {len(double)} double {double[:3]}, {len(more)} too many"
    return ""


def is_exact(readers: list[Reader], selector: str, expected: dict[str, int] | None = None, pods: int = 1) -> str | bool:
    """Whether every reader finds each line of the pods with a label once.

    `expected` is how many lines each container wrote; without it, the container's last line says so.
    """
    total = 0
    for reader in readers:
        found, last = numbers(reader.rows(selector))
        if len({pod for pod, _ in found}) < pods:
            return False
        wrong = {}
        for (pod, container), counts in found.items():
            count = expected[container] if expected else last.get((pod, container), -2) + 1
            if said := "no last line yet" if count < 0 else complaint(counts, count):
                wrong[f"{pod}/{container}"] = said
        if wrong:
            raise Failed(f"{reader.name}: {wrong}")
        if expected and {container for _, container in found} != set(expected):
            return False
        total = sum(it.total() for it in found.values())
    return f"{total} lines by {' and '.join(it.name for it in readers)}"
