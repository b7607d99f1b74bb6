"""What the configs of the bundles call, and the checks before anything is built."""
