"""Notebooks to pages: what nbdev's processors make of them, with signatures, sources and the first figure."""
import ast, base64, json, re, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def notebooks():
    "The notebooks of the site, in order."
    found = (p.relative_to(ROOT / "nbs") for p in (ROOT / "nbs").rglob("*.ipynb"))
    return sorted(p for p in found if not any(part[0] in "._" for part in p.parts))

def page_name(path):
    "The name of a notebook's page, without its number."
    from nbdev.config import nbpath2html
    return nbpath2html(path).with_suffix(".ipynb")

def thumb_name(path): return f"thumbs/{page_name(path).with_suffix('').as_posix().replace('/', '.')}.png"

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

def is_picture(cell): return any(kind.startswith("image/") for out in cell.get("outputs", []) for kind in out.get("data", {}))

def described(cells):
    "Give each figure the words of the heading above it, for those who cannot see it."
    heading, seen = "", {}
    for cell in cells:
        if cell["cell_type"] == "markdown": heading = (re.findall(r"^#+ +(.+)", cell["source"], re.M) or [heading])[-1]
        elif is_picture(cell):
            words = re.sub(r"[\[\]*_`$]", "", heading); seen[words] = seen.get(words, 0) + 1
            cell["source"] = f"#| fig-alt: {json.dumps(f'Figure: {words}' + (f', {seen[words]}' if seen[words] > 1 else ''), ensure_ascii=False)}\n{cell['source']}"

def begun(cells):
    "No heading of a name without one of a section above it."
    for i, cell in enumerate(cells):
        if cell["cell_type"] == "markdown" and re.search(r"^## ", cell["source"], re.M): return
        if cell["cell_type"] == "code" and re.search(r"^#\|\s*export\b", cell["source"], re.M) and re.search(r"^(?:async )?(?:def|class) [^_]", cell["source"], re.M):
            return cells.insert(i, raw_cell("markdown", "## Definitions"))

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

def first_figure(cells):
    "The first picture that a notebook shows, as PNG bytes, and the heading above it."
    heading = ""
    for cell in cells:
        if cell["cell_type"] == "markdown": heading = (re.findall(r"^#+ +(.+)", cell["source"], re.M) or [heading])[-1]
        for out in cell.get("outputs", []):
            if "image/png" in out.get("data", {}): return base64.b64decode("".join(out["data"]["image/png"])), heading
    return None, ""

def thumbnail(png, path, width=480):
    "A small copy of a picture, on white, without its margins."
    import io
    from PIL import Image, ImageChops
    with Image.open(io.BytesIO(png)) as image:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
        image = image.crop(ImageChops.difference(image, Image.new("RGB", image.size, "white")).getbbox())
        image.thumbnail((width, width)); path.parent.mkdir(parents=True, exist_ok=True); image.save(path, optimize=True)

def source_of(path):
    "The notebook that a page shows: of a report, the run of it that is kept."
    kept = ROOT / "results/examples/reports" / path.stem / "report.ipynb"
    return kept if path.parent.name == "reports" and kept.is_file() else ROOT / "nbs" / path

def as_run(path):
    "What stands above an executed report."
    return raw_cell("markdown", f"This is a run of the template `{path.stem}`. The same as [the page that the run left](../runs/{path.stem}/report.html), which opens without a network; "
                                f"beside it lies its [manifest](../runs/{path.stem}/data_manifest.json).")

def process(path, folder):
    "Write the page of one notebook into `folder`; its title, and the names it documents with their one-line summaries."
    from fastcore.nbio import dict2nb, write_nb
    from nbdev.processors import FilterDefaults
    raw = json.loads(source_of(path).read_text(encoding="utf-8")); cells = raw["cells"]
    for cell in cells: cell["source"] = "".join(cell["source"])
    picture, caption = first_figure(cells)
    if picture: thumbnail(picture, folder / thumb_name(path))
    module = next((m[1] for c in cells if (m := re.search(r"^#\|\s*default_exp\s+(\S+)", c["source"], re.M))), "")
    heads = class_heads(cells)
    title_apart(cells); begun(cells); described(cells); show_sources(cells, story=path.parent.name == "reports" or path.stem == "note")
    if source_of(path).name == "report.ipynb": cells.insert(1, as_run(path))
    nb = dict2nb(raw); nb.path_ = str(path)
    FilterDefaults()(nb)
    in_source_order(nb)
    names = {}
    for cell in nb.cells:
        if cell.cell_type == "markdown": cell.source = re.sub(r"(\]\([^)\s]*?)\d+_([\w.]+\.ipynb)", r"\1\2", cell.source)
        if shown := re.search(r"^show_doc\((\w+)\)", cell.source or "", re.M):
            shows = [o["data"] for o in cell.outputs if "text/markdown" in o.get("data", {})]
            if not shows: print(f"docs: {path} shows nothing for {shown[1]}: {cell.outputs}", file=sys.stderr); continue
            text = re.sub(r"<function ([\w.]+) at 0x[0-9a-f]+>", r"\1", "".join(shows[0]["text/markdown"]))  # a default that is a function: its address is another at each build
            summary = re.search(r"^\*(.+)\*$", text, re.M)
            names[shown[1]] = summary[1] if summary else ""
            if shown[1] in heads: text = re.sub(r"```python\n.*?\n```", lambda m: f"```python\n{heads[shown[1]]}\n```", text, count=1, flags=re.S)
            elif shown[1][0].isupper(): text = text.replace("```python\ndef ", "```python\nclass ", 1)
            shows[0]["text/markdown"] = text.removeprefix("---\n\n")
    dest = folder / page_name(path); dest.parent.mkdir(parents=True, exist_ok=True)
    write_nb(nb, dest)
    return {"path": path, "page": page_name(path).as_posix(), "module": module, "title": "Start" if path.stem == "index" else nb.frontmatter_.get("title", path.stem), "names": names,
            "description": nb.frontmatter_.get("description", ""), "thumb": thumb_name(path) if picture else "", "caption": caption}
