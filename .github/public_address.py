"""Write the address of the repository into what a package index shows: links of README.md, URLs of setup.cfg.

    python .github/public_address.py https://github.com/OWNER/NAME v0.2.0

A checkout has no address: it may be a fork, a mirror or a folder of a hospital, so its links are relative. A package
index resolves no relative links. The release workflow runs this before it builds, on its own checkout.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


def absolute_links(text: str, address: str, version: str) -> str:
    """Return Markdown whose relative links lead to a version of the repository; anchors of the page stay.

    >>> absolute_links("![A](docs/a.jpg) [b](docs/b.md#c) [d](#d) [e](https://e.org)", "https://h/o/n", "v1")
    '![A](https://h/o/n/raw/v1/docs/a.jpg) [b](https://h/o/n/blob/v1/docs/b.md#c) [d](#d) [e](https://e.org)'
    """

    def absolute(link: re.Match[str]) -> str:
        target = link["target"]
        if target.startswith("#") or re.match(r"[a-z]+:", target):
            return link[0]
        kind = "raw" if link["image"] else "blob"
        return f"{link['image']}[{link['text']}]({address}/{kind}/{version}/{target})"

    return _LINK.sub(absolute, text)


def with_urls(config: str, address: str, version: str) -> str:
    """Return setup.cfg with the address and what lies there as URLs of the project.

    Raises:
        ValueError: it has no section of metadata, or URLs already.
    """
    if "[metadata]\n" not in config or re.search(r"^(url|project_urls) *=", config, re.M):
        raise ValueError("setup.cfg must have a section [metadata] without url and project_urls.")
    pages = {"Documentation": f"blob/{version}/docs/index.md", "Changelog": f"blob/{version}/CHANGELOG.md"}
    urls = {**pages, "Issues": "issues"}
    lines = [f"    {name} = {address}/{path}" for name, path in urls.items()]
    return config.replace(
        "[metadata]\n", "\n".join(["[metadata]", f"url = {address}", "project_urls =", *lines, ""]), 1
    )


def main(address: str, version: str) -> None:
    """Change both files of the current folder."""
    readme, config = Path("README.md"), Path("setup.cfg")
    changed = with_urls(config.read_text(), address, version)
    readme.write_text(absolute_links(readme.read_text(), address, version))
    config.write_text(changed)


if __name__ == "__main__":
    main(*sys.argv[1:])
