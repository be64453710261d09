"""Debian packages, fetched and unpacked without installing any of them.

apt is given lists, cache and sources of its own, so that the host's are neither needed nor touched,
and still checks every signature. The suite is pinned: bookworm is the one with Kubernetes' source.
"""

import os
import shutil
import tempfile
from pathlib import Path

import layout
from host import Failed, Unsuitable, run, say

MIRROR = os.environ.get("TAFFRAIL_DEBIAN_MIRROR") or "http://deb.debian.org/debian"
SUITE = "bookworm"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

RUNTIME = (
    "busybox-static", "catatonit", "conntrack", "containerd", "containernetworking-plugins", "etcd-server",
    "iptables", "libip4tc2", "libip6tc2", "libmnl0", "libnetfilter-conntrack3", "libnfnetlink0", "libnftnl11",
    "libseccomp2", "libxtables12", "runc",
)  # fmt: skip
"""What runs in the machines, with the libraries that a small host may lack."""

IPTABLES_COMMANDS = tuple(family + verb for family in ("iptables", "ip6tables") for verb in ("", "-save", "-restore"))
"""Commands that Debian's alternatives would have made links for, had the package been installed."""


class Apt:
    """apt-get over a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        sources = folder / "sources"
        for part in (folder / "lists/partial", folder / "cache/archives/partial", sources):
            part.mkdir(parents=True, exist_ok=True)
        if not KEYRING.exists():
            raise Unsuitable(f"{KEYRING} is missing (package debian-archive-keyring)")
        (sources / "debian.sources").write_text(
            f"Types: deb deb-src\nURIs: {MIRROR}\nSuites: {SUITE}\nComponents: main\nSigned-By: {KEYRING}\n"
        )
        self._options = [
            "--quiet=2",
            "--option=APT::Sandbox::User=root",
            "--option=Acquire::Languages=none",
            "--option=Acquire::Retries=3",
            "--option=Dir::Etc::SourceList=/dev/null",
            f"--option=Dir::Etc::SourceParts={sources}",
            f"--option=Dir::State::Lists={folder / 'lists'}",
            f"--option=Dir::Cache={folder / 'cache'}",
        ]

    def update(self) -> None:
        """Fetches the lists of packages; a host that cannot is unsuitable."""
        try:
            run(["apt-get", *self._options, "update"])
        except Failed as error:
            raise Unsuitable(f"no Debian packages to be had: {error}") from error

    def unpack(self, names: tuple[str, ...], into: Path) -> None:
        """Fetches packages and unpacks them over each other in `into`."""
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            run(["apt-get", *self._options, "download", *names], cwd=folder)
            for package in sorted(Path(folder).glob("*.deb")):
                run(["dpkg", "--extract", package, into])

    def source(self, name: str, version: str, into: Path) -> None:
        """Fetches the files of a source package, checked by apt, without unpacking them."""
        into.mkdir(parents=True, exist_ok=True)
        run(["apt-get", *self._options, "--download-only", "source", f"{name}={version}"], cwd=into)


def unpack_runtime(apt: Apt) -> None:
    """Makes the tree of what runs in the machines anew."""
    say(f"unpacking {len(RUNTIME)} Debian packages into {layout.DEBIAN}")
    shutil.rmtree(layout.DEBIAN, ignore_errors=True)
    apt.unpack(RUNTIME, layout.DEBIAN)
    for command in IPTABLES_COMMANDS:
        link = layout.DEBIAN / "usr/sbin" / command
        link.unlink(missing_ok=True)
        link.symlink_to("xtables-nft-multi")
    for unneeded in ("usr/share/doc", "usr/share/man", "usr/share/lintian"):
        shutil.rmtree(layout.DEBIAN / unneeded, ignore_errors=True)
