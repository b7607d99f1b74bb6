"""Functions for the configs of the bundles, and checks before anything is built."""
