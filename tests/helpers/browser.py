"""The page in headless Chromium with every host blocked: its console, its DOM after the script."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NODE = shutil.which("node")


@dataclass(frozen=True)
class Rendered:
    """What a browser made of a page."""

    dom: str
    console: tuple[str, ...]


def render(page: Path, profile: Path, *, width: int = 1280) -> Rendered:
    """Load a page, run its script, and return the document and what the console said."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}",
        "--enable-logging=stderr", "--v=0", f"--window-size={width},1200",
        "--virtual-time-budget=3000", "--dump-dom", page.resolve().as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    lines = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Rendered(done.stdout, tuple(lines))


def section_of(dom: str, key: str) -> str:
    """The markup of one section."""
    found = re.search(rf'<section id="{key}">.*?</section>', dom, re.DOTALL)
    return "" if found is None else found.group()
