"""Tables of pages that scripts write: each lies between two marks, `<!-- NAME: begin -->` and `<!-- NAME: end -->`."""

from __future__ import annotations

from pathlib import Path


def _parts(page: Path, name: str) -> tuple[str, str, str, str, str]:
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = page.read_text().split(begin)
    table, after = rest.split(end)
    return before, begin, table, end, after


def shown(page: Path, name: str) -> str:
    """Return the table `name` of a page."""
    return _parts(page, name)[2].strip()


def renew(page: Path, name: str, table: str) -> None:
    """Replace the table `name` of a page."""
    before, begin, _, end, after = _parts(page, name)
    page.write_text(f"{before}{begin}\n{table}\n{end}{after}")
