"""Responses of the MONAI Label app in `apps/monailabel`, without a dependency on MONAI Label."""

from __future__ import annotations
