"""What several benchmarks share: their log as JSON, and the command line of those that need another environment."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["run_with_environment", "write_log"]


def write_log(log: dict[str, Any], out: Path | None, indent: int = 1) -> None:
    """Print a log as JSON, and write it to a file if one is given.

    Args:
        log: content of the log.
        out: file; its folder is created if necessary.
        indent: spaces per level.
    """
    text = json.dumps(log, indent=indent) + "\n"
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text)


def run_with_environment(
    description: str | None, program: str, measure: Callable[[Path, Path], dict[str, Any]]
) -> None:
    """Read the command line, measure in a temporary folder, and write the log.

    Args:
        description: description of the command line.
        program: program that the other virtual environment contains.
        measure: called with the temporary folder and the environment; returns the log.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, required=True, help=f"virtual environment with {program}")
    parser.add_argument("--out", type=Path, help="file of the log (printed only)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = measure(Path(folder), options.environment)
    write_log(log, options.out)
