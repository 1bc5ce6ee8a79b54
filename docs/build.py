"""Build the site into _docs: nbdev's processors turn notebooks into pages, smalldocs lays them out, and what it would fetch is put beside it."""
import ast, json, os, re, shutil, sys, tempfile
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KATEX_FILES = ROOT / "leadlag/assets/katex"
ORDER = ("Foundations", "Governance", "Statistics", "Markets", "Estimators", "Environment", "Online agents", "Meta-learning", "Offline learning",
         "Benchmarks", "Reports and command line", "Tutorials", "How to", "Reports")
GROUPS = {"governance": "Governance", "stats": "Statistics", "markets": "Markets", "estimators": "Estimators", "agents": "Online agents",
          "meta_rl": "Meta-learning", "offline_rl": "Offline learning", "benchmarks": "Benchmarks"}  # packages; single modules go by number
FOLDERS = {"tutorials": "Tutorials", "howto": "How to", "reports": "Reports"}
DECADES = {0: "Foundations", 1: "Governance", 2: "Markets", 3: "Estimators", 4: "Environment", 8: "Reports and command line", 9: "Reports and command line"}


# ---- notebooks to pages

def notebooks():
    "The notebooks of the site, in order."
    found = (p.relative_to(ROOT / "nbs") for p in (ROOT / "nbs").rglob("*.ipynb"))
    return sorted(p for p in found if not any(part[0] in "._" for part in p.parts))

def page_name(path):
    "The name of a notebook's page, without its number."
    from nbdev.config import nbpath2html
    return nbpath2html(path).with_suffix(".ipynb")

def raw_cell(kind, source): return {"cell_type": kind, "source": source, "metadata": {}} | ({"outputs": [], "execution_count": None} if kind == "code" else {})

def title_apart(cells):
    "Put title and subtitle into a cell of their own: nbdev takes the whole first cell for them."
    first = cells[0]
    found = re.match(r"(# [^\n]+\n*(?:> [^\n]+\n*)?)(.*)", first["source"], re.S) if first["cell_type"] == "markdown" else None
    if found and found[2].strip(): cells[:1] = [first | {"source": found[1]}, raw_cell("markdown", found[2])]

def show_sources(cells, story=False):
    "After each exported cell, its source: folded under the signatures if it has public names, open if it has none. In a story all code is folded."
    for i, cell in reversed(list(enumerate(cells))):
        if cell["cell_type"] != "code": continue
        if not re.search(r"^#\|\s*(export|default_exp)\b", cell["source"], re.M):
            fold = '#| code-fold: true\n#| code-summary: "Code"\n' if story else ""
            cell["source"] = f"#| eval: false\n{fold}{cell['source']}"  # shown as stored; only exported cells are run, for their signatures
            continue
        code = re.sub(r"^#\|.*\n?", "", cell["source"], flags=re.M).strip()
        if all(isinstance(n, (ast.Import, ast.ImportFrom)) or ast.unparse(n).startswith("_all_ =") for n in ast.parse(code).body): continue
        public = re.search(r"^(?:async )?(?:def|class) [^_]", code, re.M)
        fold = '#| code-fold: true\n#| code-summary: "Source"\n' if public else ""
        cells.insert(i + 1, raw_cell("code", f"#| eval: false\n{fold}{code}"))

def class_heads(cells):
    "Class name -> what to show as its signature: its first line and its fields with their comments, for classes without an `__init__` of their own."
    heads = {}
    for cell in cells:
        if cell["cell_type"] != "code" or not re.search(r"^#\|\s*export\b", cell["source"], re.M): continue
        lines = cell["source"].splitlines()
        for node in ast.parse(cell["source"]).body:
            if not isinstance(node, ast.ClassDef) or any(getattr(b, "name", "") == "__init__" for b in node.body): continue
            stop = next((b for b in node.body if isinstance(b, (ast.FunctionDef, ast.ClassDef))), None)
            end = min([stop.lineno, *(d.lineno for d in stop.decorator_list)]) - 1 if stop else node.end_lineno
            start = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
            doc = node.body[0] if ast.get_docstring(node) else None
            kept = [line for i, line in enumerate(lines[start:end], start + 1) if not (doc and doc.lineno <= i <= doc.end_lineno)]
            heads[node.name] = "\n".join(kept).rstrip()
    return heads

def in_source_order(nb):
    "nbdev inserts the signatures of one cell backwards."
    out, run = [], []
    for cell in nb.cells:
        if cell.cell_type == "code" and re.search(r"^show_doc\(", cell.source or "", re.M): run.append(cell); continue
        out += run[::-1] + [cell]; run = []
    nb.cells = out + run[::-1]

def process(path, folder):
    "Write the page of one notebook into `folder`; its title, and the names it documents with their one-line summaries."
    from fastcore.nbio import dict2nb, write_nb
    from nbdev.processors import FilterDefaults
    raw = json.loads((ROOT / "nbs" / path).read_text(encoding="utf-8")); cells = raw["cells"]
    for cell in cells: cell["source"] = "".join(cell["source"])
    module = next((m[1] for c in cells if (m := re.search(r"^#\|\s*default_exp\s+(\S+)", c["source"], re.M))), "")
    heads = class_heads(cells)
    title_apart(cells); show_sources(cells, story=path.parent.name == "reports" or path.stem == "note")
    nb = dict2nb(raw); nb.path_ = str(path)
    FilterDefaults()(nb)
    in_source_order(nb)
    names = {}
    for cell in nb.cells:
        if cell.cell_type == "markdown": cell.source = re.sub(r"(\]\([^)\s]*?)\d+_([\w.]+\.ipynb)", r"\1\2", cell.source)
        if shown := re.search(r"^show_doc\((\w+)\)", cell.source or "", re.M):
            shows = [o["data"] for o in cell.outputs if "text/markdown" in o.get("data", {})]
            if not shows: print(f"docs: {path} shows nothing for {shown[1]}: {cell.outputs}", file=sys.stderr); continue
            text = "".join(shows[0]["text/markdown"])
            summary = re.search(r"^\*(.+)\*$", text, re.M)
            names[shown[1]] = summary[1] if summary else ""
            if shown[1] in heads: text = re.sub(r"```python\n.*?\n```", lambda m: f"```python\n{heads[shown[1]]}\n```", text, count=1, flags=re.S)
            elif shown[1][0].isupper(): text = text.replace("```python\ndef ", "```python\nclass ", 1)
            shows[0]["text/markdown"] = text.removeprefix("---\n\n")
    dest = folder / page_name(path); dest.parent.mkdir(parents=True, exist_ok=True)
    write_nb(nb, dest)
    return {"path": path, "page": page_name(path).as_posix(), "module": module, "title": "Start" if path.stem == "index" else nb.frontmatter_.get("title", path.stem), "names": names}


# ---- the site around them

def group(page):
    "The sidebar section of a page."
    path, package = page["path"], page["module"].split(".")[0]
    if path.parent.name in FOLDERS: return FOLDERS[path.parent.name]
    if "." in page["module"] and package in GROUPS: return GROUPS[package]
    number = re.match(r"\d", path.name)
    return DECADES.get(int(number[0]), "More") if number else ""

RUNS = [{"text": "Speed", "href": "benchmarks.md"}, {"text": "Transfer", "href": "transfer.md"}, {"text": "From logs", "href": "logs.md"}, {"text": "History", "href": "history.md"}]

def sidebar(pages):
    "Contents of the sidebar, sections in the order of the layers."
    sections = {"": [], **{name: [] for name in ORDER}, "Benchmarks": [*RUNS]}
    for page in pages: sections.setdefault(group(page), []).append({"text": page["title"], "href": page["page"]})
    return [*sections.pop(""), *({"section": name, "contents": items} for name, items in sections.items() if items),
            {"section": "About", "contents": [{"text": "Every name", "href": "names.md"}, {"text": "Contributing", "href": "contributing.md"},
                                              {"text": "Changes", "href": "changelog.md"}]}]

def every_name(pages):
    "A page that lists the public functions and classes, module by module."
    lines = ["# Every name", "", "The public functions and classes, module by module. Each links to its place in the notebook that defines it."]
    for page in pages:
        if not page["names"]: continue
        lines += ["", f"## leadlag.{page['module']}", "", "| name | what it does |", "|---|---|"]
        lines += [f"| [`{name}`]({page['page']}#{name.lower()}) | {summary.replace('|', chr(92) + '|')} |" for name, summary in page["names"].items()]
    return "\n".join(lines) + "\n"

def symbols(pages):
    "Names in backticks that become links: modules, qualified names, and plain names that could be nothing else."
    out, plain = {}, {}
    for page in pages:
        html = Path(page["page"]).with_suffix(".html").as_posix()
        if page["module"]: out |= {page["module"]: html, f"leadlag.{page['module']}": html} if "." in page["module"] else {f"leadlag.{page['module']}": html}
        for name in page["names"]:
            out |= {f"{page['module']}.{name}": f"{html}#{name.lower()}", f"leadlag.{page['module']}.{name}": f"{html}#{name.lower()}"}
            plain.setdefault(name, []).append(f"{html}#{name.lower()}")
    return out | {name: where[0] for name, where in plain.items() if len(where) == 1 and re.search(r"_|[A-Z]", name)}

def configuration(pages):
    "The project file that smalldocs reads."
    return {"project": {"type": "website", "output-dir": "_site", "resources": ["styles.css", "bench", "transfer", "offline", "history"]},
            "website": {"title": "leadlag", "description": "A notebook-first laboratory for lead-lag trading under changing market regimes",
                        "search": True, "sidebar": {"style": "docked", "contents": sidebar(pages)}, "favicon": "favicon.svg",
                        "navbar": {"search": True, "left": [{"text": "Start", "href": "index.ipynb"}, {"text": "Research note", "href": "note.ipynb"}, {"text": "Every name", "href": "names.md"}, *RUNS]},
                        "page-navigation": True},
            "format": {"html": {"theme": {"light": "default", "dark": "dark.css"}, "css": "styles.css", "toc": True, "toc-depth": 3, "code-copy": True}},
            "smalldocs": {"linkify": True}}

def benchmarks(folder):
    "The pages of the committed benchmarks, and their pictures."
    from leadlag.benchmarks.history_page import history_page
    from leadlag.benchmarks.offline_page import offline_page
    from leadlag.benchmarks.speed import bench_page
    from leadlag.benchmarks.targets import transfer_page
    for name, page, run, there in (("benchmarks", bench_page, "bench", "bench"), ("transfer", transfer_page, "meta_benchmark", "transfer"),
                                  ("logs", offline_page, "offline_benchmark", "offline"), ("history", history_page, "history", "history")):
        run = ROOT / "results" / run; (folder / there).mkdir()
        (folder / f"{name}.md").write_text(page(run), encoding="utf-8")
        for picture in (*run.glob("*.svg"), *run.glob("*.png")): shutil.copy(picture, folder / there)

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
        with working_in(ROOT / "nbs"): pages = [process(path, folder) for path in notebooks()]
        (folder / "names.md").write_text(every_name(pages), encoding="utf-8")
        benchmarks(folder)
        for name in ("CONTRIBUTING.md", "CHANGELOG.md"): shutil.copy(ROOT / name, folder / name.lower())
        for name in ("styles.css", "favicon.svg"): shutil.copy(ROOT / "docs" / name, folder)
        (folder / "dark.css").write_text(dark_theme(), encoding="utf-8")
        (folder / "_symbols.json").write_text(json.dumps(symbols(pages)), encoding="utf-8")
        (folder / "_quarto.yml").write_text(yaml.safe_dump(configuration(pages), sort_keys=False), encoding="utf-8")
        site = render(folder, quiet=True)
        offline(folder / "_site")
        shutil.rmtree(out, ignore_errors=True); shutil.copytree(folder / "_site", out)
    return [w for w in site.warnings if "output-file" not in w], len(pages)

if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "_docs").resolve()
    warnings, count = build(target)
    for w in warnings: print(f"docs: {w}", file=sys.stderr)
    print(f"{count} notebooks: {os.path.relpath(target)}/index.html")
    sys.exit(1 if any("broken link" in w for w in warnings) else 0)
