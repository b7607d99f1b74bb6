"""The `tpseg weights` command: the catalogue. PyTorch is imported by `pack` alone."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from monai_tpseg.cli.usage import path_text
from monai_tpseg.weights import CatalogueError, Entry, find, folders, listed, user_folder
from monai_tpseg.weights.card import SCHEMES, check_weights_name
from monai_tpseg.weights.lookup import VARIABLE
from monai_tpseg.words import count

__all__ = ["add_weights_command"]

_ABOUT = """\
The catalogue of weights that can be used by name: those of the package, and those added by a site or a user.

tpseg weights list                  list all weights
tpseg weights show starter-tpseg    training data, accuracy and licence
tpseg weights where                 folders of the catalogue; copy a weights file with its .json into one
tpseg weights where starter-tpseg   folder of these weights, for scripts
tpseg weights verify                verify the SHA-256 of every file
tpseg weights pack RUN/model.pt --name liver-2026 --licence "..."   add weights to your folder, in half precision
"""


def add_weights_command(commands: Any) -> None:
    """Add `weights` to the sub-parsers of `tpseg`."""
    raw = argparse.RawDescriptionHelpFormatter
    command = commands.add_parser(
        "weights", help="manage the catalogue of weights", description=_ABOUT, formatter_class=raw
    )
    actions = command.add_subparsers(required=True, metavar="ACTION")
    _add(actions, "list", _list, "list all weights").add_argument("--json", action="store_true", help="print JSON")
    where = _add(actions, "where", _where, "print the folders of the catalogue, or the folder of given weights")
    where.add_argument("name", metavar="NAME", nargs="?", help="weights of the catalogue: print only their folder")
    show = _add(actions, "show", _show, "show the card of weights")
    show.add_argument("name", metavar="NAME", help="weights of the catalogue")
    show.add_argument("--json", action="store_true", help="print JSON")
    verify = _add(actions, "verify", _verify, "verify the SHA-256 of weights")
    verify.add_argument("names", metavar="NAME", nargs="*", help="weights of the catalogue (all)")
    fetch = _add(actions, "fetch", _fetch, "download weights whose description has a URL and a SHA-256")
    fetch.add_argument("name", metavar="NAME", help="weights of the catalogue")
    _add_pack(_add(actions, "pack", _pack, "prepare the model.pt of a training for the catalogue"))


def _add(actions: Any, name: str, function: Any, about: str) -> Any:
    command = actions.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
    command.add_argument("--quiet", action="store_true", help="print only errors and the requested output")
    command.set_defaults(command=function)
    return command


def _add_pack(command: Any) -> None:
    command.add_argument(
        "weights", type=path_text, metavar="MODEL", help="model.pt of a training, beside its model.json"
    )
    command.add_argument(
        "--name", required=True, type=_name, metavar="N", help="name in the catalogue, e.g. liver-2026"
    )
    command.add_argument("--out", type=path_text, metavar="DIR", help=f"folder of the catalogue ({user_folder()})")
    command.add_argument("--licence", default="", metavar="TEXT", help="licence of the weights")
    command.add_argument("--status", default="", metavar="TEXT", help="a word or two, repeated in every result")
    command.add_argument("--intended-use", default="", metavar="TEXT", help="intended use, in one sentence")
    command.add_argument("--date", type=_date, metavar="YYYY-MM-DD", help="date when training ended")
    command.add_argument(
        "--sources",
        type=path_text,
        metavar="JSON",
        help="list of the training data: name, tasks, pictures, terms, link",
    )
    command.add_argument("--url", type=_url, metavar="URL", help="URL where others can download the file")
    command.add_argument("--replace", action="store_true", help="replace existing weights of that name")


def _name(text: str) -> str:
    try:
        return check_weights_name(text)
    except CatalogueError as error:
        raise argparse.ArgumentTypeError(f"{error}") from None


def _date(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a date such as 2026-01-31") from None


def _url(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in SCHEMES or not url.netloc:
        raise argparse.ArgumentTypeError(f"'{text}' is not a URL that begins with {' or '.join(SCHEMES)}://")
    return text


def _list(options: argparse.Namespace) -> int:
    entries = listed()
    if options.json:
        _write(json.dumps([_record(entry) for entry in entries], indent=2))
        return 0
    rows = [("NAME", "NETWORK", "MiB", "DICE", "STATUS", "LICENCE", "FROM"), *map(_row, entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        _write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _row(entry: Entry) -> tuple[str, ...]:
    card = entry.card
    size = entry.file.stat().st_size if entry.file else card.size
    there = "" if entry.file else " (not here)"
    return (
        *(card.name, card.network, f"{size / 2**20:.1f}{there}", _mean(card.dice), card.status or "-"),
        *(card.licence or "-", entry.folder.origin),
    )


def _mean(dice: Mapping[str, Any] | None) -> str:
    """The mean Dice; of K-Prism the first way of asking."""
    for name, value in (dice or {}).items():
        if isinstance(value, Mapping):
            return f"{value['mean']:.1f} ({name})" if "mean" in value else "-"
    return f"{dice['mean']:.1f}" if dice and "mean" in dice else "-"


def _where(options: argparse.Namespace) -> int:
    if options.name is not None:
        _write(str(find(options.name).there().parent))
        return 0
    for folder in folders():
        _write(f"{folder.origin:14} {folder.path}")
    if not user_folder().is_dir():
        _write(f"{'user':14} {user_folder()} (make it to use it)")
    _write(f"{VARIABLE} names folders of a site. The first folder that knows a name decides.")
    return 0


def _show(options: argparse.Namespace) -> int:
    entry = find(options.name)
    _write(json.dumps(_record(entry), indent=2) if options.json else "\n".join(_lines(entry)))
    return 0


def _lines(entry: Entry) -> Iterator[str]:
    card = entry.card
    size = entry.file.stat().st_size if entry.file else card.size
    yield f"{card.name}: {card.network}, input {' x '.join(map(str, card.image_size))} pixels"
    facts = {
        "file": entry.file or f"not here; {card.url or 'not hosted'}",
        "size": f"{size:,} bytes",
        "sha256": card.sha256,
        "status": card.status,
        "licence": card.licence,
        "intended use": card.intended_use,
        "trained until": card.date,
        "tasks": ", ".join(card.tasks),
    }
    for name, value in facts.items():
        if value:
            yield f"  {name:14} {value}"
    yield from _dice_lines(card.dice or {}, card.validation)
    for name, figure in (card.measures or {}).items():
        yield f"    {name}: {figure:.1f}"
    if card.sources:
        yield "  trained on"
    for source in card.sources:
        tasks = ", ".join(source["tasks"])
        yield f"    {source['name']} ({tasks}; {count(source['pictures'], 'picture')}): {source['terms']}"


def _dice_lines(dice: Mapping[str, Any], validation: str) -> Iterator[str]:
    if not dice:
        return
    yield f"  Dice           {validation}"
    tables = {name: value for name, value in dice.items() if isinstance(value, Mapping)} or {"": dice}
    for name, table in tables.items():
        values = ", ".join(f"{task} {value:.1f}" for task, value in table.items())
        yield f"    {name}{': ' if name else ''}{values}"


def _verify(options: argparse.Namespace) -> int:
    entries = [find(name) for name in options.names] or listed()
    if not entries:
        raise CatalogueError("There are no weights to verify; see tpseg weights where.")
    for entry in entries:
        if entry.file is None and not options.names:
            _write(f"{entry.card.name}: not here")
            continue
        entry.check()
        _write(f"{entry.card.name}: SHA-256 matches")
    return 0


def _fetch(options: argparse.Namespace) -> int:
    from monai_tpseg.weights.fetch import fetch

    _write(str(fetch(find(options.name))))
    return 0


def _pack(options: argparse.Namespace) -> int:
    from monai_tpseg.weights.pack import pack, read_sources

    card: dict[str, Any] = {
        "status": options.status,
        "licence": options.licence,
        "intended_use": options.intended_use,
        "date": options.date,
        "url": options.url,
    }
    card = {key: value for key, value in card.items() if value}
    if options.sources:
        card["sources"] = list(read_sources(Path(options.sources)))
    folder = Path(options.out) if options.out else user_folder()
    info = pack(Path(options.weights), folder, options.name, card, options.replace)
    if not options.quiet:
        _write(f"{folder / options.name}.safetensors: {info.card['size']:,} bytes, sha256 {info.sha256}")
    return 0


def _record(entry: Entry) -> dict[str, Any]:
    file = None if entry.file is None else str(entry.file)
    return {**asdict(entry.card), "file": file, "from": entry.folder.origin}


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
