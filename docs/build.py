"""Build the site into _docs: nbdev's processors turn notebooks into pages, smalldocs lays them out, and what it would fetch is put beside it."""
import json, os, re, shutil, sys, tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path

from pages import ROOT, notebooks, process
from shelves import every_command, every_name, for_machines, gallery, navbar, shelves, sidebars, symbols

KATEX_FILES = ROOT / "leadlag/assets/katex"
ABOUT = "A notebook-first laboratory for lead-lag trading under changing market regimes"

def configuration(pages):
    "The project file that smalldocs reads."
    return {"project": {"type": "website", "output-dir": "_site", "resources": ["styles.css", "bench", "transfer", "offline", "history", "sweeps", "thumbs", "runs"]},
            "website": {"title": "leadlag", "description": ABOUT, "search": True, "llms-txt": True, "sidebar": [{"style": "docked", **bar} for bar in sidebars(pages)],
                        "favicon": "favicon.svg", "navbar": {"search": True, "left": navbar()}, "page-navigation": True},
            "format": {"html": {"theme": {"light": "default", "dark": "dark.css"}, "css": "styles.css", "toc": True, "toc-depth": 3, "code-copy": True}},
            "smalldocs": {"linkify": True}}

def unbroken(markdown):
    "A number stays on one line with its interval."
    return re.sub(r"(?<=\d) \[(-?[\d.]+), (-?[\d.]+)\]", "\u00a0[\\1,\u00a0\\2]", markdown)

def benchmarks(folder):
    "The pages of the committed benchmarks, and their pictures."
    from leadlag.benchmarks.history_page import history_page
    from leadlag.benchmarks.offline_page import offline_page
    from leadlag.benchmarks.speed import bench_page
    from leadlag.benchmarks.sweeps_page import sweeps_page
    from leadlag.benchmarks.targets import transfer_page
    for name, page, run, there in (("benchmarks", bench_page, "bench", "bench"), ("transfer", transfer_page, "meta_benchmark", "transfer"),
                                  ("logs", offline_page, "offline_benchmark", "offline"), ("history", history_page, "history", "history"),
                                  ("sweeps", sweeps_page, "sweeps", "sweeps")):
        run = ROOT / "results" / run; (folder / there).mkdir()
        (folder / f"{name}.md").write_text(unbroken(page(run)), encoding="utf-8")
        for picture in (*run.glob("*.svg"), *run.glob("*.png")): shutil.copy(picture, folder / there)

def examples(folder):
    "The pages and manifests that the kept runs of the reports left."
    for run in sorted((ROOT / "results/examples/reports").glob("*/report.html")):
        there = folder / "runs" / run.parent.name; there.mkdir(parents=True)
        for name in ("report.html", "data_manifest.json"): shutil.copy(run.with_name(name), there)

def dark_theme():
    "Bootstrap's own dark mode as a stylesheet: the bundled dark themes would fetch a font."
    from smalldocs.site import ASSETS
    light = (ASSETS / "vendor/bootstrap/bootstrap.min.css").read_text(encoding="utf-8")
    return light.replace("[data-bs-theme=dark]", ":root")

def offline(site):
    "Put KaTeX and the search index where a page opened from a disk finds them."
    from smalldocs.layout import KATEX
    shutil.copytree(KATEX_FILES, site / "site_libs/katex")
    for page in site.rglob("*.html"):
        up = "../" * (len(page.relative_to(site).parts) - 1)
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace(f"{KATEX}/contrib/", f"{KATEX}/").replace(KATEX, f"{up}site_libs/katex"), encoding="utf-8")
    index = (site / "search.json").read_text(encoding="utf-8")
    (site / "search.js").write_text(f"window.searchIndex = {index};\n", encoding="utf-8")
    script = site / "site_libs/smalldocs.js"; text = script.read_text(encoding="utf-8")
    fetch = 'const r = await fetch(offset + "search.json");\n      index = await r.json();'
    load = ('await new Promise((ok, no) => document.head.append(Object.assign(document.createElement("script"), {src: offset + "search.js", onload: ok, onerror: no})));\n'
            "      index = window.searchIndex;")
    if fetch not in text: print("note: this smalldocs loads its index another way; search will need a web server", file=sys.stderr)
    script.write_text(text.replace(fetch, load), encoding="utf-8")

@contextmanager
def working_in(folder):
    "nbdev and smalldocs look for their settings from the working folder."
    before = Path.cwd(); os.chdir(folder)
    try: yield
    finally: os.chdir(before)

def build(out):
    "The whole site, put in place of the old one when it is done."
    import yaml
    from smalldocs.site import build as render
    os.environ["IN_TEST"] = "1"  # as nbdev's own page builder does
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        with working_in(ROOT / "nbs"), ProcessPoolExecutor(min(4, os.cpu_count())) as pool: pages = list(pool.map(process, notebooks(), repeat(folder), chunksize=4))
        written = {"names.md": every_name(pages), "verbs_and_settings.md": every_command(), "gallery.md": gallery(pages), **shelves(pages)}
        for name, text in written.items(): (folder / name).write_text(text, encoding="utf-8")
        examples(folder)
        benchmarks(folder)
        for name in ("CONTRIBUTING.md", "CHANGELOG.md"): shutil.copy(ROOT / name, folder / name.lower())
        for name in ("styles.css", "favicon.svg"): shutil.copy(ROOT / "docs" / name, folder)
        (folder / "dark.css").write_text(dark_theme(), encoding="utf-8")
        (folder / "_symbols.json").write_text(json.dumps(symbols(pages)), encoding="utf-8")
        (folder / "_quarto.yml").write_text(yaml.safe_dump(configuration(pages), sort_keys=False), encoding="utf-8")
        site = render(folder, quiet=True)
        offline(folder / "_site")
        (folder / "_site/llms.txt").write_text(for_machines(pages, ABOUT), encoding="utf-8")
        fresh = out.with_name(f".{out.name}.new"); shutil.rmtree(fresh, ignore_errors=True); shutil.copytree(folder / "_site", fresh)
    if out.exists(): shutil.rmtree(out)
    fresh.rename(out)
    return [w for w in site.warnings if "output-file" not in w], len(pages)

if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "_docs").resolve()
    if target.exists() and not (target / "llms.txt").is_file() and (not target.is_dir() or any(target.iterdir())): sys.exit(f"docs: {target} is there and no site of ours: give another folder, or remove it")
    warnings, count = build(target)
    for w in warnings: print(f"docs: {w}", file=sys.stderr)
    print(f"{count} notebooks: {os.path.relpath(target)}/index.html")
    sys.exit(1 if any("broken link" in w for w in warnings) else 0)
