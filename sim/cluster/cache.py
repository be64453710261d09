"""The cache of what is dear to make, trusted only after every file's checksum was found right.

Invariants: a part is either as its list of checksums says or is made anew, whole; a part made by
another recipe (another version, another fix) does not count as right.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import build
import layout
import packages
from host import Failed, lock, say


def ensure(in_use: bool) -> None:
    """Makes what is absent, damaged or out of date; checks the rest. Nothing is made under a user's feet."""
    with lock("cache"):
        apt = None
        for part, recipe, make in _parts():
            if _is_right(part, recipe):
                continue
            if in_use:
                raise Failed(f"{part} must be made anew, and machines run from it: `cluster down` first")
            if apt is None:
                apt = packages.Apt(layout.CACHE / "apt")
                apt.update()
            make(apt)
            _list_path(part).write_text(json.dumps({"recipe": recipe, "files": _checksums(part)}, indent=1))


def _parts() -> Iterator[tuple[Path, dict, Callable[[packages.Apt], None]]]:
    """Each part: its folder, what it is made of, and how."""
    debian = {"suite": packages.SUITE, "packages": sorted(packages.RUNTIME)}
    kubernetes = {"version": build.SOURCE_VERSION, "programs": sorted(build.PROGRAMS), "with": sorted(build.TOOLS)}
    yield layout.DEBIAN, debian, packages.unpack_runtime
    yield layout.KUBERNETES, kubernetes, build.build


def _is_right(part: Path, recipe: dict) -> bool:
    try:
        listed = json.loads(_list_path(part).read_text())
    except (FileNotFoundError, ValueError):
        return False
    if listed.get("recipe") != recipe:
        say(f"{part} was made by another recipe")
        return False
    if listed.get("files") != _checksums(part):
        say(f"{part} is damaged")
        return False
    return True


def _list_path(part: Path) -> Path:
    return part.with_name(part.name + ".checksums.json")


def _checksums(part: Path) -> dict[str, str]:
    """SHA-256 of each file, and where each link leads, by path."""
    paths = sorted(path for path in part.rglob("*") if path.is_symlink() or path.is_file())
    with ThreadPoolExecutor() as pool:
        sums = pool.map(_checksum, paths)
        return {str(path.relative_to(part)): found for path, found in zip(paths, sums, strict=True)}


def _checksum(path: Path) -> str:
    if path.is_symlink():
        return f"-> {path.readlink()}"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
