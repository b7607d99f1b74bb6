"""Kinds of paths and content of folders, by the file system alone: no file is opened."""

from __future__ import annotations

import os
import stat
from collections import Counter
from pathlib import Path
from typing import Literal, NamedTuple

__all__ = ["Listing", "Place", "list_folder", "list_links", "place_of"]

Place = Literal["file", "folder", "absent", "pipe", "socket", "device", "denied", "silent"]
"""`silent`: access to it does not return in time."""


class Listing(NamedTuple):
    """Content of a folder.

    Attributes:
        identity: identity of the folder, independent of the links that lead to it.
        files: regular files and links to them, sorted.
        folders: sub-folders, sorted; links to folders are in `links`.
        links: links to folders, sorted.
        left_out: kind of other content -> its count.
    """

    identity: tuple[int, int]
    files: tuple[Path, ...]
    folders: tuple[Path, ...]
    links: tuple[Path, ...]
    left_out: Counter[str]


def place_of(path: Path) -> Place:
    """Return the kind of object at `path`; pipes, devices and sockets are never opened, since they may block."""
    try:
        mode = path.stat().st_mode
    except PermissionError:
        return "denied"
    except (OSError, ValueError):  # missing, too long, a loop of links, a zero byte
        return "absent"
    kinds: tuple[tuple[bool, Place], ...] = (
        (stat.S_ISREG(mode), "file"),
        (stat.S_ISDIR(mode), "folder"),
        (stat.S_ISFIFO(mode), "pipe"),
        (stat.S_ISSOCK(mode), "socket"),
    )
    return next((place for found, place in kinds if found), "device")


def list_folder(folder: Path, skip: frozenset[str] = frozenset()) -> Listing:
    """Return the content of `folder`; hidden names are only counted.

    Args:
        folder: folder to list.
        skip: names to skip.

    Raises:
        OSError: the folder cannot be opened.
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
    """Return the names of the links in `folder`, without following them.

    Raises:
        OSError: the folder cannot be opened.
    """
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_symlink())


def _place(entry: os.DirEntry[str]) -> Place:
    """As `place_of`; plain files and folders need no stat call, which matters on slow mounts."""
    if entry.is_file(follow_symlinks=False):
        return "file"
    return "folder" if entry.is_dir(follow_symlinks=False) else place_of(Path(entry.path))
