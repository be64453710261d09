"""Kubernetes, built from Debian's source package with Debian's Go. Dear: minutes, 3 GB while it lasts.

Kubernetes 1.20's reflect2 reaches into the runtime of Go in a way that Go 1.18 and later broke: maps
are walked with a wild pointer, and now and then the API server dies. Debian packages a reflect2
that is right; it takes the place of the one in the tree.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import layout
from host import Failed, run, say
from packages import Apt

VERSION = "1.20.2"
SOURCE_VERSION = "1.20.5+really1.20.2-1.1+deb12u1"
COMMIT = "faecb196815e248d3ecfb03c680a4507229c2a56"
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
JOBS = 2
"""Compilers at once. Each takes up to 1.4 GB."""
NICENESS = 15

TOOLS = (
    "golang-1.19-go", "golang-1.19-src", "golang-github-modern-go-reflect2-dev",
    "libpopt0", "libxxhash0", "make", "rsync",
)  # fmt: skip
GO = Path("usr/lib/go-1.19")
REFLECT2 = Path("github.com/modern-go/reflect2")

VERSION_FILE = f"""\
KUBE_GIT_COMMIT='{COMMIT}'
KUBE_GIT_TREE_STATE='archive'
KUBE_GIT_VERSION='v{VERSION}'
KUBE_GIT_MAJOR='1'
KUBE_GIT_MINOR='20'
"""


def build(apt: Apt) -> None:
    """Builds every program into `layout.KUBERNETES`. Leaves only them, also when it fails."""
    say(f"building Kubernetes {VERSION}: seven to fifteen minutes, 3 GB of disk meanwhile")
    for abandoned in layout.CACHE.glob("build-*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix="build-", dir=layout.CACHE))
    try:
        tools, tree = folder / "tools", folder / "kubernetes"
        apt.unpack(TOOLS, tools)
        apt.source("kubernetes", SOURCE_VERSION, folder / "source")
        _unpack_source(folder / "source", tree)
        _replace_reflect2(tools, tree)
        _make(folder, tools, tree)
        _collect(tree)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unpack_source(files: Path, tree: Path) -> None:
    """Unpacks upstream's archive. Debian's patches are for Debian's own packaging of kubectl."""
    archives = list(files.glob("*.orig.tar.*"))
    if len(archives) != 1:
        raise Failed(f"expected one upstream archive in {files}, found {len(archives)}")
    tree.mkdir()
    run(["tar", "--extract", "--file", archives[0], "--directory", tree, "--strip-components=1"])


def _replace_reflect2(tools: Path, tree: Path) -> None:
    vendored = tree / "vendor" / REFLECT2
    shutil.rmtree(vendored)
    shutil.copytree(tools / "usr/share/gocode/src" / REFLECT2, vendored)
    (vendored / "go.mod").unlink(missing_ok=True)


def _make(folder: Path, tools: Path, tree: Path) -> None:
    """Runs Kubernetes' own makefile, which also generates code, in the folder layout that it wants."""
    package = tree / ".go/src/k8s.io"
    package.mkdir(parents=True)
    (package / "kubernetes").symlink_to("../../..")
    (folder / "version").write_text(VERSION_FILE)
    environment = {
        "PATH": f"{tools / GO / 'bin'}:{tools / 'usr/bin'}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": str(tools / "usr/lib" / layout.LIBRARY_FOLDER),
        "HOME": str(folder),
        "GOROOT": str(tools / GO),
        "GOPATH": str(tree / ".go"),
        "GOCACHE": str(folder / "go-cache"),
        "TMPDIR": str(folder),
        "GOPROXY": "off",
        "CGO_ENABLED": "0",
        "KUBE_GIT_VERSION_FILE": str(folder / "version"),
        "LC_ALL": "C",
    }
    what = " ".join(f"cmd/{program}" for program in PROGRAMS)
    log = layout.CACHE / "build.log"
    with log.open("w") as output:
        make = subprocess.Popen(
            ["nice", "-n", str(NICENESS), "make", f"GOFLAGS=-p={JOBS}", f"WHAT={what}"],
            cwd=tree, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            code = make.wait()
        except BaseException:
            os.killpg(make.pid, signal.SIGKILL)
            make.wait()
            raise
    if code != 0:
        raise Failed(f"building Kubernetes ended with {code}; see {log}")


def _collect(tree: Path) -> None:
    shutil.rmtree(layout.KUBERNETES, ignore_errors=True)
    layout.KUBERNETES.mkdir(parents=True)
    for program in PROGRAMS:
        shutil.move(tree / "_output/bin" / program, layout.KUBERNETES / program)
