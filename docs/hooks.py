"""What `make docs` does for links out of this folder: the README and the sweeps join the site."""

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent


def on_files(files: Files, config: Any) -> Files:
    """Adds the README as a page, and the sweeps as files."""
    files.append(File.generated(config, "about.md", abs_src_path=str(ROOT / "README.md")))
    for sweep in (ROOT / "sweeps").iterdir():
        name = f"sweeps/{sweep.name}"
        files.append(File.generated(config, name, abs_src_path=str(sweep)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Has links lead to where these are on the site."""
    if page.file.src_uri == "about.md":
        return markdown.replace("](docs/", "](")
    markdown = markdown.replace("](../sweeps)", "](candidate.md#what-a-candidate-can-be)")
    return markdown.replace("](../README.md", "](about.md").replace("](../sweeps/", "](sweeps/")
