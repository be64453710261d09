"""Tests of the parts that need no cluster: `python3 -m unittest tests` in this folder."""

import gzip
import json
import os
import re
import struct
import sys
import tarfile
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import cache
import dns
import e2e_readers
import image
import layout
from host import Failed


def query(name: str, kind: int = dns.TYPE_A, flags: int = 0x0100) -> bytes:
    labels = b"".join(bytes([len(it)]) + it.encode() for it in name.split(".") if it)
    return struct.pack("!6H", 7, flags, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, dns.CLASS_IN)


def service(name: str, cluster_ip: str) -> dict:
    return {"metadata": {"name": name, "namespace": "ns"}, "spec": {"clusterIP": cluster_ip}}


class Names(unittest.TestCase):
    def test_a_service_has_its_address_and_a_headless_one_those_of_its_ready_endpoints(self):
        endpoints = [
            {
                "metadata": {"name": "headless", "namespace": "ns"},
                "subsets": [{"addresses": [{"ip": "10.244.1.2"}], "notReadyAddresses": [{"ip": "10.244.1.3"}]}],
            },
            {"metadata": {"name": "web", "namespace": "ns"}, "subsets": None},
        ]
        found = dns.addresses([service("web", "10.96.1.1"), service("headless", "None")], endpoints, "cluster.local")
        self.assertEqual(
            found, {"web.ns.svc.cluster.local": ["10.96.1.1"], "headless.ns.svc.cluster.local": ["10.244.1.2"]}
        )


class Answers(unittest.TestCase):
    names = {"web.ns.svc.cluster.local": ["10.96.1.1", "10.96.1.2"], "empty.ns.svc.cluster.local": []}

    def check(self, asked: bytes, code: int, addresses: list[str], names: dict | None = names):
        said = dns.answer(asked, names)
        identity, flags, _, count, _, _ = struct.unpack_from("!6H", said)
        self.assertEqual((identity, flags & 0x8000, flags & 15, count), (7, 0x8000, code, len(addresses)))
        records = said[len(said) - 16 * count :]
        found = [".".join(map(str, records[at + 12 : at + 16])) for at in range(0, len(records), 16)]
        self.assertEqual(found, addresses)

    def test_table(self):
        web = "web.ns.svc.cluster.local"
        self.check(query(web), dns.NO_ERROR, ["10.96.1.1", "10.96.1.2"])
        self.check(query(web.upper()), dns.NO_ERROR, ["10.96.1.1", "10.96.1.2"])
        self.check(query(web, kind=28), dns.NO_ERROR, [])
        self.check(query("empty.ns.svc.cluster.local"), dns.NO_ERROR, [])
        self.check(query("example.org"), dns.NO_SUCH_NAME, [])
        self.check(query(web), dns.SERVER_FAILURE, [], None)
        self.check(query(web, flags=0x0800), dns.NOT_IMPLEMENTED, [])
        self.check(query(web)[:-5], dns.FORMAT_ERROR, [])

    def test_an_answer_fits_into_a_datagram(self):
        name = ".".join(["a" * 50] * 3)
        said = dns.answer(query(name), {name: ["10.0.0.1"] * 1000})
        self.assertLessEqual(len(said), 512)

    def test_no_bytes_stop_the_server(self):
        whole = query("web.ns.svc.cluster.local")
        cuts = [whole[:end] for end in range(len(whole))]
        values = (0, 63, 64, 192, 255)
        flips = [whole[:at] + bytes([value]) + whole[at + 1 :] for at in range(len(whole)) for value in values]
        for bad in [*cuts, *flips, os.urandom(600), os.urandom(100)]:
            try:
                dns.answer(bad, self.names)
            except dns.Malformed:
                pass


class Images(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.script = self.folder / "hello"
        self.script.write_text("#!/bin/sh\necho hello\n")
        self.script.chmod(0o755)

    def test_the_same_files_make_the_same_image_whenever(self):
        first = image.of_files("a.local/b:1", [str(self.script)], None).write(self.folder / "1.tar")
        os.utime(self.script, (1, 1))
        again = image.of_files("a.local/b:1", [str(self.script)], None).write(self.folder / "2.tar")
        self.assertEqual(first, again)
        self.assertEqual((self.folder / "1.tar").read_bytes(), (self.folder / "2.tar").read_bytes())

    def test_every_blob_is_where_its_digest_says(self):
        image.of_files("a.local/b:1", [f"{self.script}:/bin/hello"], "/bin/hello").write(self.folder / "1.tar")
        with tarfile.open(self.folder / "1.tar") as tar:
            index = json.load(tar.extractfile("index.json"))

            def blob(descriptor: dict) -> bytes:
                content = tar.extractfile("blobs/sha256/" + descriptor["digest"].removeprefix("sha256:")).read()
                self.assertEqual((image._digest(content), len(content)), (descriptor["digest"], descriptor["size"]))
                return content

            manifest = json.loads(blob(index["manifests"][0]))
            config = json.loads(blob(manifest["config"]))
            self.assertEqual(config["config"]["Entrypoint"], ["/bin/hello"])
            self.assertEqual(config["rootfs"]["diff_ids"], [manifest["layers"][0]["digest"]])
            (self.folder / "layer.tar").write_bytes(blob(manifest["layers"][0]))
        with tarfile.open(self.folder / "layer.tar") as layer:
            names = layer.getnames()
            self.assertIn("bin/hello", names)
            self.assertLess(names.index("bin"), names.index("bin/hello"))
            self.assertEqual(layer.getmember("bin/hello").mode, 0o755)

    def test_a_linked_program_brings_its_libraries(self):
        made = image._libraries({"/bin/ls": Path("/bin/ls")})
        self.assertTrue(any("libc.so" in path for path in made), made)

    def test_refused(self):
        for name, files in (("a.local/b", ["/bin/ls"]), ("a.local/b:latest", ["/bin/ls"]), ("a.local/b:1", ["/no"])):
            with self.assertRaises(Failed):
                image.of_files(name, files, None)


class Cache(unittest.TestCase):
    def test_a_part_is_made_when_absent_damaged_or_of_another_recipe(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            part, made = folder / "part", []

            def make(_apt) -> None:
                made.append(1)
                part.mkdir(exist_ok=True)
                (part / "program").write_text("good")

            recipe = {"version": 1}
            with (
                mock.patch.object(layout, "CACHE", folder),
                mock.patch.object(cache, "_parts", lambda: [(part, recipe, make)]),
                mock.patch.object(cache.packages, "Apt"),
            ):
                for change, makings in (
                    (lambda: None, 1),
                    (lambda: None, 1),
                    (lambda: (part / "program").write_text("evil"), 2),
                    (lambda: (part / "program").unlink(), 3),
                    (lambda: (part / "more").write_text("new"), 4),
                    (lambda: recipe.update(version=2), 5),
                ):
                    change()
                    cache.ensure(in_use=False)
                    (part / "more").unlink(missing_ok=True)
                    self.assertEqual(len(made), makings)
                cache.ensure(in_use=True)
                (part / "program").unlink()
                with self.assertRaises(Failed):
                    cache.ensure(in_use=True)


class Manifests(unittest.TestCase):
    """What is installed, against the API groups that old and new clusters were seen to serve."""

    root = Path(__file__).resolve().parents[2]

    def versions(self, pattern: str) -> set[str]:
        texts = [it.read_text() for it in sorted(self.root.glob(pattern))]
        self.assertTrue(texts, pattern)
        found = re.findall(r"^apiVersion: (\S+)$", "\n".join(texts), re.MULTILINE)
        return set(found) - {"v1", "kustomize.config.k8s.io/v1beta1"}

    def served(self, cluster: str) -> set[str]:
        shared = os.environ.get("FIXTURES_DIR") or self.root.parent / "shared/fixtures"
        recorded = Path(shared) / f"kubernetes/{cluster}/apis.json.gz"
        if not recorded.exists():
            print(f"SKIPPED: {recorded} not found", file=sys.stderr)
            self.skipTest(f"{recorded} not found")
        groups = json.loads(gzip.decompress(recorded.read_bytes()))["groups"]
        return {it["groupVersion"] for group in groups for it in group["versions"]}

    def test_every_kind_of_object_is_known_to_old_and_new_clusters(self):
        for cluster in ("k120", "k136"):
            served = self.served(cluster)
            self.assertEqual(self.versions("deploy/manifests/*.yaml") - served, set(), cluster)

    def test_there_is_an_example_of_an_autoscaler_for_each(self):
        old, new = (self.versions(f"deploy/examples/{it}.yaml") for it in ("hpa-before-1.23", "hpa"))
        self.assertLessEqual(old, self.served("k120"))
        self.assertLessEqual(new, self.served("k136"))
        self.assertEqual((old & self.served("k136"), new & self.served("k120")), (set(), set()))

    def test_the_examples_differ_in_their_version_alone(self):
        old, new = (self.root / f"deploy/examples/{it}.yaml" for it in ("hpa-before-1.23", "hpa"))
        differing = set(old.read_text().splitlines()) ^ set(new.read_text().splitlines())
        left = {line for line in differing if not line.startswith("#")}
        self.assertEqual(left, {"apiVersion: autoscaling/v2", "apiVersion: autoscaling/v2beta2"})


class Told:
    """A reader that finds what a test says."""

    name = "CLI"

    def __init__(self, *lines: str, pod: str = "a-1") -> None:
        self.found = [({"pod": pod, "container": "c"}, line) for line in lines]

    def rows(self, selector: str) -> list:
        return self.found


class Exactness(unittest.TestCase):
    """What counts lines must be able to say no."""

    def test_a_pod_that_said_its_last_line(self):
        whole = ["line 0 of a log", "line 1 of a log", "line 2 last"]
        self.assertEqual(e2e_readers.is_exact([Told(*whole), Told(*whole)], "app=a"), "3 lines by CLI and CLI")
        for wrong, said in (
            (whole[:2], "no last line yet"),
            (whole[1:], "1 missing [0]"),
            ([*whole, whole[1]], "1 double [1]"),
            ([*whole, "line 3 of a log"], "1 too many"),
        ):
            for readers in ([Told(*wrong), Told(*whole)], [Told(*whole), Told(*wrong)]):
                with self.assertRaises(Failed) as raised:
                    e2e_readers.is_exact(readers, "app=a")
                self.assertIn(said, str(raised.exception))

    def test_a_pod_whose_lines_are_known(self):
        reader = Told("line 0", "line 1")
        self.assertEqual(e2e_readers.is_exact([reader], "app=a", {"c": 2}), "2 lines by CLI")
        self.assertFalse(e2e_readers.is_exact([reader], "app=a", {"c": 2, "other": 1}))
        self.assertFalse(e2e_readers.is_exact([reader], "app=a", {"c": 2}, pods=2))
        self.assertFalse(e2e_readers.is_exact([Told()], "app=a"))
        with self.assertRaises(Failed):
            e2e_readers.is_exact([reader], "app=a", {"c": 3})

    def test_a_line_that_nobody_wrote(self):
        with self.assertRaises(Failed):
            e2e_readers.numbers([({"pod": "a"}, "lin 3")])


if __name__ == "__main__":
    unittest.main()
