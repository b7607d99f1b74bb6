"""The `tpseg` command, a file for each group of its commands."""

from __future__ import annotations

from monai_tpseg.cli.main import main

__all__ = ["main"]
