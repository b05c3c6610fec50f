"""A bundle opened in a real browser, as whoever is handed the folder would open it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from modelbuild.runtimes.onnxruntime_web import chromium
from modelbuild.runtimes.onnxruntime_web.server import Site

# The page itself tells nobody: this one opens it as a part of itself and passes on what it shows.
WATCHER = b"""<!doctype html><iframe src="index.html?SEARCH"></iframe><script type="module">
const frame = document.querySelector("iframe");
for (;;) {
  await new Promise((resume) => setTimeout(resume, 50));
  const page = frame.contentDocument;
  if (!page || page.readyState !== "complete" || !["holds", "RED"].includes(page.title)) continue;
  const said = { title: page.title, text: page.querySelector("#result").textContent, isolated: crossOriginIsolated };
  await fetch("answer", { method: "POST", body: JSON.stringify(said) + "\\n" });
  break;
}
</script>"""


class Shown(NamedTuple):
    """What the page shows, and whether it is cross-origin isolated."""

    title: str
    text: str
    isolated: bool


def shown(folder: Path, program: str, search: str = "", webgpu: bool = False) -> Shown:
    """Open `folder` in the Chromium `program`, started with WebGPU where asked."""
    files: dict[str, Path | bytes] = {
        p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()
    }
    files["watch.html"] = WATCHER.replace(b"SEARCH", search.encode())
    with Site(files) as site, chromium.page(program, f"{site.url}watch.html", webgpu) as browser:
        return Shown(**site.wait(60, browser.check).about)
