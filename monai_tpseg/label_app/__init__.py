"""What the MONAI Label app in `apps/monailabel` answers with; nothing here needs MONAI Label."""

from __future__ import annotations
