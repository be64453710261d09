"""Container images made of files of the host, as OCI archives, with no daemon and no registry.

The same files give the same bytes, so the same digest: no time, owner or order of the host gets in.
A program that is linked to shared libraries brings them along.
"""

import hashlib
import io
import json
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import layout
from host import Failed

FOLDERS = ("dev", "etc", "proc", "root", "sys", "tmp", "var/log")
PASSWD = """\
root:x:0:0:root:/root:/bin/sh
nonroot:x:65532:65532:nonroot:/tmp:/bin/false
nobody:x:65534:65534:nobody:/:/bin/false
"""
GROUP = "root:x:0:\nnonroot:x:65532:\nnogroup:x:65534:\n"


@dataclass
class Image:
    """What goes into an image: files by the path they get, links by path, and what it runs."""

    name: str
    files: dict[str, Path]
    entrypoint: list[str]
    links: dict[str, str] = field(default_factory=dict)

    def write(self, archive: Path) -> str:
        """Writes the archive; returns the digest of the image."""
        layer = self._layer()
        config = {
            "architecture": layout.ARCHITECTURE,
            "os": "linux",
            "config": {"Entrypoint": self.entrypoint, "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
        kind = "application/vnd.oci.image"
        blobs = {"config": json.dumps(config).encode(), "layer": layer}
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": _descriptor(f"{kind}.config.v1+json", blobs["config"]),
            "layers": [_descriptor(f"{kind}.layer.v1.tar", layer)],
        }
        blobs["manifest"] = json.dumps(manifest).encode()
        entry = _descriptor(f"{kind}.manifest.v1+json", blobs["manifest"])
        entry["annotations"] = {
            "io.containerd.image.name": self.name,
            "org.opencontainers.image.ref.name": self.name.rpartition(":")[2],
        }
        index = {"schemaVersion": 2, "mediaType": f"{kind}.index.v1+json", "manifests": [entry]}
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive, "w") as tar:
            _add_file(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644)
            for blob in blobs.values():
                _add_file(tar, f"blobs/sha256/{_digest(blob).removeprefix('sha256:')}", blob, 0o644)
            _add_file(tar, "index.json", json.dumps(index).encode(), 0o644)
        return entry["digest"]

    def _layer(self) -> bytes:
        contents = {"etc/passwd": (PASSWD.encode(), 0o644), "etc/group": (GROUP.encode(), 0o644)}
        for path, source in (self.files | _libraries(self.files)).items():
            contents[path.lstrip("/")] = (source.read_bytes(), 0o755 if source.stat().st_mode & 0o111 else 0o644)
        links = {path.lstrip("/"): target for path, target in self.links.items()}
        folders = set(FOLDERS)
        for path in [*contents, *links, *FOLDERS]:
            folders |= {str(parent) for parent in PurePosixPath(path).parents if parent.name}
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for path in sorted(folders):
                entry = tarfile.TarInfo(path + "/")
                entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if path == "tmp" else 0o755
                tar.addfile(entry)
            for path, (content, mode) in sorted(contents.items()):
                _add_file(tar, path, content, mode)
            for path, target in sorted(links.items()):
                entry = tarfile.TarInfo(path)
                entry.type, entry.linkname = tarfile.SYMTYPE, target
                tar.addfile(entry)
        return buffer.getvalue()


def of_files(name: str, specifications: list[str], entrypoint: str | None) -> Image:
    """An image by command line: each file is `SOURCE` (put into /usr/local/bin) or `SOURCE:PATH`.

    It runs `entrypoint`, or else the first file.
    """
    if ":" not in name.rpartition("/")[2] or name.endswith(":latest"):
        raise Failed(f"the image {name} needs a tag other than latest, or Kubernetes would try to pull it")
    files: dict[str, Path] = {}
    for specification in specifications:
        source, _, path = specification.partition(":")
        if not Path(source).is_file():
            raise Failed(f"{source} is not a file")
        files[path or f"/usr/local/bin/{Path(source).name}"] = Path(source)
    return Image(name, files, [entrypoint or next(iter(files))])


def pause() -> Image:
    """What holds a pod's namespaces: catatonit, which waits and reaps."""
    program = layout.DEBIAN / "usr/bin/catatonit"
    return Image(layout.PAUSE_IMAGE, {"/usr/bin/catatonit": program}, ["/usr/bin/catatonit", "-P"])


def busybox() -> Image:
    """A shell and its tools, for workloads that tests make up."""
    program = layout.DEBIAN / "bin/busybox"
    applets = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    links = {f"/bin/{applet}": "busybox" for applet in applets if applet != "busybox"}
    return Image(layout.BUSYBOX_IMAGE, {"/bin/busybox": program}, ["/bin/sh"], links)


def _libraries(files: dict[str, Path]) -> dict[str, Path]:
    """The shared libraries, loader included, of those files that are linked to some."""
    found: dict[str, Path] = {}
    for source in files.values():
        with source.open("rb") as file:
            if file.read(4) != b"\x7fELF":
                continue
        listed = subprocess.run(["ldd", source], capture_output=True, text=True, check=False)
        if listed.returncode != 0:
            continue  # Linked to nothing.
        if "not found" in listed.stdout:
            raise Failed(f"{source} lacks a library:\n{listed.stdout}")
        for line in listed.stdout.splitlines():
            path = line.partition("=>")[2] or line
            path = path.partition("(")[0].strip()
            if path.startswith("/"):
                found[path] = Path(path)
    return found


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _descriptor(media_type: str, content: bytes) -> dict:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _add_file(tar: tarfile.TarFile, path: str, content: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))
