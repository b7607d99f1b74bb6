"""Fixtures of the bundle's tests serve here as well."""

from tests.bundle.conftest import _apart, bundle_dir, phantoms

__all__ = ["_apart", "bundle_dir", "phantoms"]
