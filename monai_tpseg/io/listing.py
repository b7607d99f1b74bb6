"""What a path leads to, and what a folder holds, by the file system alone: nothing is opened."""

from __future__ import annotations

import os
import stat
from collections import Counter
from pathlib import Path
from typing import Literal, NamedTuple

__all__ = ["Listing", "Place", "list_folder", "list_links", "place_of"]

Place = Literal["file", "folder", "absent", "pipe", "socket", "device", "denied", "silent"]
"""`silent`: what touches it gets no answer in time."""


class Listing(NamedTuple):
    """A folder.

    Attributes:
        identity: of the folder, the same whatever links lead to it.
        files: regular files, or links to them, sorted.
        folders: sorted; links to folders are in `links`.
        links: to folders, sorted.
        left_out: what is none of these -> how often.
    """

    identity: tuple[int, int]
    files: tuple[Path, ...]
    folders: tuple[Path, ...]
    links: tuple[Path, ...]
    left_out: Counter[str]


def place_of(path: Path) -> Place:
    """Return what `path` leads to; a pipe, a device or a socket is never opened: it might be waited for without end."""
    try:
        mode = path.stat().st_mode
    except PermissionError:
        return "denied"
    except (OSError, ValueError):  # not there, too long, a circle of links, a zero byte
        return "absent"
    kinds: tuple[tuple[bool, Place], ...] = (
        (stat.S_ISREG(mode), "file"),
        (stat.S_ISDIR(mode), "folder"),
        (stat.S_ISFIFO(mode), "pipe"),
        (stat.S_ISSOCK(mode), "socket"),
    )
    return next((place for found, place in kinds if found), "device")


def list_folder(folder: Path, skip: frozenset[str] = frozenset()) -> Listing:
    """Return what lies in `folder` itself; hidden names are counted and not looked at.

    Args:
        folder: to list.
        skip: names that are left alone.

    Raises:
        OSError: it may not be opened.
    """
    files, folders, links = list[Path](), list[Path](), list[Path]()
    left_out: Counter[str] = Counter()
    here = folder.stat()
    with os.scandir(folder) as entries:
        found = sorted((entry for entry in entries if entry.name not in skip), key=lambda entry: entry.name)
    for entry in found:
        path = folder / entry.name
        place = _place(entry)
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            left_out["hidden folder" if place == "folder" else "hidden file"] += 1
        elif place == "file":
            files.append(path)
        elif place == "folder":
            (links if entry.is_symlink() else folders).append(path)
        else:
            left_out["broken link" if place == "absent" else place] += 1
    return Listing((here.st_dev, here.st_ino), tuple(files), tuple(folders), tuple(links), left_out)


def list_links(folder: Path) -> list[str]:
    """Return the names of the links in `folder`, none of which is followed.

    Raises:
        OSError: it may not be opened.
    """
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_symlink())


def _place(entry: os.DirEntry[str]) -> Place:
    """As `place_of`; a plain file or folder needs no look at its inode, which counts on slow mounts."""
    if entry.is_file(follow_symlinks=False):
        return "file"
    return "folder" if entry.is_dir(follow_symlinks=False) else place_of(Path(entry.path))
