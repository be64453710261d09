#!/usr/bin/env python3
"""The cluster's DNS: answers for Services by asking the API server, at most once a second.

    dns.py ADDRESS DOMAIN KUBECONFIG

`SERVICE.NAMESPACE.svc.DOMAIN` has the Service's address or, if it is headless, those of its ready
endpoints. Only A records, only over UDP; there is no upstream, so no other name exists.
Runs in the machine `control`, kept alive by its init; `answer` and `addresses` are pure.
"""

import base64
import json
import socket
import ssl
import struct
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

PORT = 53
QUERY_BYTES_MAX = 512
ADDRESSES_MAX = 20
"""So many fit into the 512 bytes of an answer, whatever the length of the name."""
FRESH_SECONDS = 1.0
TIME_TO_LIVE = 2
TYPE_A, TYPE_ANY, CLASS_IN = 1, 255, 1
NO_ERROR, FORMAT_ERROR, SERVER_FAILURE, NO_SUCH_NAME, NOT_IMPLEMENTED = 0, 1, 2, 3, 4


class Malformed(Exception):
    """A query that cannot be read."""


def addresses(services: list[dict], endpoints: list[dict], domain: str) -> dict[str, list[str]]:
    """The addresses of every Service by its whole name, in lower case."""
    ready = {}
    for it in endpoints:
        found = [address["ip"] for subset in it.get("subsets") or [] for address in subset.get("addresses") or []]
        ready[it["metadata"]["namespace"], it["metadata"]["name"]] = found
    names = {}
    for it in services:
        namespace, name = it["metadata"]["namespace"], it["metadata"]["name"]
        own = it["spec"].get("clusterIP") or ""
        found = ready.get((namespace, name), []) if own in ("", "None") else [own]
        names[f"{name}.{namespace}.svc.{domain}".lower()] = found
    return names


def question(query: bytes) -> tuple[str, int, int, bytes]:
    """The name asked for, its type, its class, and the question as it stands in the query."""
    labels, position = [], 12
    while True:
        if position >= len(query):
            raise Malformed("the name does not end")
        length = query[position]
        if length > 63 or position + 1 + length > len(query):
            raise Malformed("a label is too long")
        position += 1
        if length == 0:
            break
        labels.append(query[position : position + length].decode("latin-1").lower())
        position += length
    if position + 4 > len(query):
        raise Malformed("the question is cut")
    kind, of_class = struct.unpack_from("!HH", query, position)
    return ".".join(labels), kind, of_class, query[12 : position + 4]


def answer(query: bytes, names: dict[str, list[str]] | None) -> bytes:
    """The answer to a query; `names` is None while the API server does not answer.

    Raises `Malformed` if there is not even a header to answer to.
    """
    if len(query) < 12 or len(query) > QUERY_BYTES_MAX:
        raise Malformed("no header, or more than a datagram should hold")
    identity, flags, questions = struct.unpack_from("!HHH", query)
    if flags & 0x8000:
        raise Malformed("an answer, not a query")

    def reply(code: int, asked: bytes = b"", records: tuple[bytes, ...] = ()) -> bytes:
        # A response, authoritative; "recursion desired" is repeated.
        head = struct.pack("!6H", identity, 0x8400 | flags & 0x0100 | code, bool(asked), len(records), 0, 0)
        return head + asked + b"".join(records)

    if flags & 0x7800:
        return reply(NOT_IMPLEMENTED)
    try:
        name, kind, of_class, asked = question(query)
    except Malformed:
        return reply(FORMAT_ERROR)
    if questions != 1:
        return reply(FORMAT_ERROR)
    if names is None:
        return reply(SERVER_FAILURE, asked)
    if name not in names or of_class != CLASS_IN:
        return reply(NO_SUCH_NAME, asked)
    if kind not in (TYPE_A, TYPE_ANY):
        return reply(NO_ERROR, asked)
    return reply(NO_ERROR, asked, tuple(_record(address) for address in names[name][:ADDRESSES_MAX]))


def _record(address: str) -> bytes:
    """An A record of the name in the question, which begins at byte 12."""
    return struct.pack("!HHHIH", 0xC00C, TYPE_A, CLASS_IN, TIME_TO_LIVE, 4) + socket.inet_aton(address)


class Api:
    """The API server's Services and Endpoints, asked anew when what is known is a second old."""

    def __init__(self, kubeconfig: str, domain: str) -> None:
        config = json.loads(Path(kubeconfig).read_text(encoding="utf-8"))
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._tls = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile() as both:
            both.write(base64.b64decode(user["client-certificate-data"]))
            both.write(base64.b64decode(user["client-key-data"]))
            both.flush()
            self._tls.load_cert_chain(both.name)
        self._server = cluster["server"]
        self._domain = domain
        self._known: dict[str, list[str]] | None = None
        self._asked_at = -FRESH_SECONDS

    def names(self) -> dict[str, list[str]] | None:
        """Addresses by name; what was last known if the API server does not answer now."""
        if time.monotonic() - self._asked_at >= FRESH_SECONDS:
            try:
                self._known = addresses(self._list("services"), self._list("endpoints"), self._domain)
            except (OSError, ValueError, KeyError) as error:
                print(f"the API server does not answer: {error}", flush=True)
            self._asked_at = time.monotonic()
        return self._known

    def _list(self, what: str) -> list[dict]:
        url = f"{self._server}/api/v1/{what}?resourceVersion=0"
        with urllib.request.urlopen(url, context=self._tls, timeout=2) as response:
            return json.load(response)["items"]


def main() -> None:
    """Serves for ever."""
    address, domain, kubeconfig = sys.argv[1:]
    api = Api(kubeconfig, domain)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, PORT))
        print(f"serving {domain} on {address}", flush=True)
        while True:
            query, client = server.recvfrom(QUERY_BYTES_MAX + 1)
            try:
                server.sendto(answer(query, api.names()), client)
            except (Malformed, OSError) as error:
                print(f"query of {client[0]}: {error}", flush=True)


if __name__ == "__main__":
    main()
