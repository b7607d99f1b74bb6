"""What the MONAI Deploy application in `apps/deploy` computes; nothing here needs the MONAI Deploy App SDK."""

from __future__ import annotations
