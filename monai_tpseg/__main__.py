"""`python -m monai_tpseg` is the `tpseg` command."""

from __future__ import annotations

import sys

from monai_tpseg.cli import main

if __name__ == "__main__":
    sys.exit(main())
