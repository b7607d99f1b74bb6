"""Masks made by hand with K-Prism's help: the session behind a viewer, and a viewer for this machine alone."""
