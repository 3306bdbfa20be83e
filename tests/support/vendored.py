"""The page's vendored packages: ``python tests/support/vendored.py`` takes them from npm as the manifest says."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

VENDOR = Path(__file__).parents[2] / "src" / "horen" / "serve" / "page" / "assets" / "vendor"
MANIFEST = VENDOR / "manifest.json"


def manifest() -> dict[str, Any]:
    return json.loads(MANIFEST.read_text(encoding="utf-8"))


def as_vendored(file: dict[str, Any], content: str) -> str:
    """The content of a package's file as a browser reads it without a map of names: imports by path."""
    for package, own in file.get("imports", {}).items():
        content = content.replace(f'from"{package}"', f'from"{own}"')
    return re.sub(r"\n?//# sourceMappingURL=\S+\s*$", "\n", content)


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def renew() -> None:
    """Write every vendored file, and its digest into the manifest."""
    told = manifest()
    for package in told["packages"]:
        with tempfile.TemporaryDirectory() as folder:
            command = ["npm", "pack", "--silent", f"{package['name']}@{package['version']}"]
            found = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
            archive = Path(folder) / found.stdout.strip()
            package["tarball_sha512"] = hashlib.sha512(archive.read_bytes()).hexdigest()
            with tarfile.open(archive) as tar:
                for file in package["files"]:
                    content = tar.extractfile(f"package/{file['from']}").read().decode()
                    vendored = as_vendored(file, content)
                    (VENDOR / file["file"]).write_text(vendored, encoding="utf-8")
                    file["sha256"] = digest(vendored)
    MANIFEST.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    renew()
