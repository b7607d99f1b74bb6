"""Location of weights: the package, a folder of the site, a folder of the user, without any download."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import platformdirs

from monai_tpseg.files import file_sha256
from monai_tpseg.parsing import read_json
from monai_tpseg.weights.card import Card, CatalogueError, read_card

__all__ = [
    "DEFAULTS",
    "VARIABLE",
    "Entry",
    "Folder",
    "announcement",
    "check_own",
    "choose_weights",
    "find",
    "folders",
    "listed",
    "user_folder",
    "weights_path",
]

logger = logging.getLogger(__name__)

DEFAULTS = {"tpseg": "starter-tpseg", "kprism": "starter-kprism"}
"""Weights that run where none are named, for each network."""

VARIABLE = "TPSEG_WEIGHTS"
"""The environment variable that names folders of a site, several divided as in PATH."""

_SUFFIXES = (".safetensors", ".pt", ".pth")


@dataclass(frozen=True)
class Folder:
    """A folder of the catalogue and how it came to be one: "TPSEG_WEIGHTS", "user" or "package"."""

    origin: str
    path: Path


@dataclass(frozen=True)
class Entry:
    """Weights of the catalogue.

    Attributes:
        card: card of the weights.
        folder: folder of the description.
        file: the weights; None where only their description is there.
    """

    card: Card
    folder: Folder
    file: Path | None

    def check(self) -> None:
        """Compare the file with its description.

        Raises:
            CatalogueError: there is no file, or its sha256 differs.
        """
        file = self.there()
        if file_sha256(file) != self.card.sha256:
            raise CatalogueError(
                f"'{file}' is damaged or was altered: '{self.card.name}.json' has another SHA-256; get both again."
            )

    def there(self) -> Path:
        """Return the file.

        Raises:
            CatalogueError: only the description is there.
        """
        if self.file is not None:
            return self.file
        name = self.card.name
        way = f"tpseg weights fetch {name} gets it" if self.card.url else "copy it there, it is not hosted"
        raise CatalogueError(f"The file of weights '{name}' is not in '{self.folder.path}': {way}.")


def folders() -> list[Folder]:
    """Return the folders of the catalogue that are there, in order: the first that knows a name decides."""
    site = [Path(part) for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    for path in site:
        if not path.is_dir():
            raise CatalogueError(f"{VARIABLE} refers to '{path}', which is not a folder; correct or unset it.")
    named = [Folder(VARIABLE, path) for path in site]
    others = [Folder("user", user_folder()), Folder("package", _package())]
    return [*named, *(folder for folder in others if folder.path.is_dir())]


def user_folder() -> Path:
    """Return where weights of this user lie; it need not be there."""
    return platformdirs.user_data_path("monai_tpseg", appauthor=False) / "weights"


def listed() -> list[Entry]:
    """Return all weights of the catalogue, of each name those that count.

    Raises:
        CatalogueError: a description that is none, or two files for one description.
    """
    found: dict[str, Entry] = {}
    for folder in folders():
        for entry in _entries(folder):
            found.setdefault(entry.card.name, entry)
    return list(found.values())


def find(name: str) -> Entry:
    """Return the weights called `name`.

    Raises:
        CatalogueError: there are none; the message lists the names and the folders.
    """
    for folder in folders():
        path = folder.path / f"{name}.json"
        if path.is_file():
            return _entry(folder, path)
    known = ", ".join(entry.card.name for entry in listed()) or "none"
    places = ", ".join(f"'{folder.path}'" for folder in folders())
    raise CatalogueError(f"No weights '{name}' in {places} (there: {known}); give a file, or see tpseg weights where.")


def weights_path(name_or_path: str | os.PathLike[str] | None = None, network: str = "tpseg") -> Path:
    """Return the file of the requested weights.

    Args:
        name_or_path: a file, the name of weights in the catalogue, or None for the starter weights of `network`. A
            file of that name takes precedence over the catalogue.
        network: "tpseg" or "kprism".

    Raises:
        CatalogueError: the catalogue does not have the name, or the starter weights are missing.
    """
    if name_or_path is None or name_or_path == "":
        return _default(network)
    path = Path(name_or_path)
    if path.name != str(name_or_path) or path.suffix in _SUFFIXES or path.exists():
        return path
    return find(str(name_or_path)).there()


def announcement(file: Path) -> str:
    """Return the line that says which weights run, e.g. `weights: starter-tpseg, research preview (non-commercial)`."""
    card = read_card(file.with_suffix(".json"))
    licence = f" ({card.licence})" if card.licence else ""
    return f"weights: {', '.join(part for part in (card.name, card.status) if part)}{licence}"


def choose_weights(name_or_path: str | os.PathLike[str] | None = None, network: str = "tpseg") -> Path:
    """Return the result of `weights_path`, and log the default weights if none were named.

    Args:
        name_or_path: see `weights_path`.
        network: see `weights_path`.
    """
    file = weights_path(name_or_path, network)
    if not name_or_path:
        logger.warning("%s; choose others with --checkpoint.", announcement(file))
    return file


def check_own(file: Path) -> None:
    """Refuse to replace what is fitted beside the weights of the package, which every user of them relies on.

    Args:
        file: weights beside which something is to be written.

    Raises:
        CatalogueError: they are part of the package.
    """
    if file.resolve().parent == _package().resolve():
        raise CatalogueError(
            f"'{file.name}' belongs to the package, as does what is fitted beside it; copy the file and its .json, and "
            "give the copy with --checkpoint."
        )


def _default(network: str) -> Path:
    name = DEFAULTS[network]
    try:
        return find(name).there()
    except CatalogueError as error:
        raise CatalogueError(f"No weights were given, and the starter weights are missing. {error}") from error


def _package() -> Path:
    return Path(str(files("monai_tpseg.weights"))) / "files"


def _entries(folder: Folder) -> Iterator[Entry]:
    for path in sorted(folder.path.glob("*.json")):
        if _describes_weights(path):
            yield _entry(folder, path)


def _entry(folder: Folder, path: Path) -> Entry:
    found = [file for file in map(path.with_suffix, _SUFFIXES) if file.is_file()]
    if len(found) > 1:
        names = " and ".join(f"'{file.name}'" for file in found)
        raise CatalogueError(f"'{path}' describes one file, but there are {names}; remove the wrong one.")
    return Entry(read_card(path), folder, found[0] if found else None)


def _describes_weights(path: Path) -> bool:
    """Whether a file claims to describe weights; a site's folder may hold other JSON."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return any(path.with_suffix(suffix).is_file() for suffix in _SUFFIXES)
    return isinstance(content, dict) and {"tasks", "network", "sha256"} <= set(content)
