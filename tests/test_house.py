"""The rules of the house that a program can check. Each rule is a function from a text to complaints; each is shown to fail on a bad example."""
import ast, getpass, json, re, socket, subprocess, sys
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "stable_baselines3", "matplotlib", "pandas", "numba", "scipy", "sklearn", "h5py", "hdf5plugin", "papermill", "nbconvert", "pyarrow"}
MAX_NOTEBOOK, MAX_CELL, MAX_MODULE, MAX_FUNCTION, WORDS_PER_LINE = 500_000, 40, 280, 60, 2
NUMBER = re.compile(r"^(\d\d)_")
ALL_NOTEBOOKS = sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if not any(part[0] in "._" for part in p.relative_to(ROOT).parts))
MODULES = sorted(p for p in (ROOT / "leadlag").rglob("*.py") if p.name not in ("__init__.py", "_modidx.py"))


# ---- reading

def read(path):
    "A notebook as a dict with `source` and text outputs joined into strings."
    nb = json.loads(path.read_text(encoding="utf-8"))
    for cell in nb["cells"]: cell["source"] = "".join(cell["source"])
    return nb

def code_cells(nb): return [c for c in nb["cells"] if c["cell_type"] == "code"]
def is_export(source): return bool(re.search(r"^#\|\s*exports?\b", source, re.M))
def code_lines(source): return [line for line in source.splitlines() if line.strip() and not line.strip().startswith("#")]
def name_of(path): return path.relative_to(ROOT).as_posix()

def outputs_text(cell):
    "What a reader sees of a cell's outputs, pictures left out."
    parts = []
    for out in cell.get("outputs", []):
        parts.append("".join(out.get("text", "")))
        parts += ["".join(v) for kind, v in out.get("data", {}).items() if kind.startswith("text/") and not isinstance(v, dict)]
    return "\n".join(parts)

def layers(notebooks):
    "Module name -> number of its notebook."
    found = {}
    for path in notebooks:
        number = NUMBER.match(path.name)
        exp = re.search(r"^#\|\s*default_exp\s+(\S+)", "\n".join(c["source"] for c in code_cells(read(path))), re.M)
        if exp and number: found[exp[1]] = int(number[1])
    return found


# ---- rules over the source of a module

def imported(tree, module):
    "(module below leadlag or '', name) for every import of our own, wherever it stands."
    package = module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "leadlag": yield alias.name.partition(".")[2], None
        elif isinstance(node, ast.ImportFrom):
            words = (node.module or "").split(".") if node.module else []
            if node.level: words = package[: len(package) - node.level + 1] + words
            elif words[:1] == ["leadlag"]: words = words[1:]
            else: continue
            for alias in node.names: yield ".".join(words), alias.name

def upward_imports(source, module, numbers):
    "Imports of a module whose notebook has no lower number; the two learners' packages also stay apart."
    complaints = []
    for target, name in imported(ast.parse(source), module):
        deeper = f"{target}.{name}".lstrip(".")
        target = deeper if deeper in numbers else target
        if target in numbers and numbers[target] >= numbers.get(module, 100):
            complaints.append(f"{module} ({numbers.get(module)}) imports {target} ({numbers[target]})")
        if target == "" and name not in (None, "__version__"): complaints.append(f"{module} imports {name} from the package itself")
        if {module.split(".")[0], target.split(".")[0]} == {"meta_rl", "offline_rl"}: complaints.append(f"{module} imports {target}")
    return complaints

def star_imports(source, *_):
    return [f"line {n.lineno}: star import" for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ImportFrom) and n.names[0].name == "*"]

def too_long(source, *_):
    "A module or a function that nobody reads in one go."
    complaints = [f"{n} lines"] if (n := len(code_lines(source))) > MAX_MODULE else []
    return complaints + [f"{f.name} has {n} lines" for f in ast.walk(ast.parse(source))
                         if isinstance(f, ast.FunctionDef) and (n := f.end_lineno - f.lineno) > MAX_FUNCTION]

def undocumented(source, *_):
    "Public functions and classes without a docstring."
    return [f"{n.name} has no docstring" for n in ast.parse(source).body
            if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and not n.name.startswith("_") and not ast.get_docstring(n)]

def unfinished(source, *_):
    "Stubs, bare excepts, notes to oneself."
    complaints = [f"{word} is left" for word in ("TODO", "FIXME", "XXX", "NotImplementedError") if re.search(rf"\b{word}\b", source)]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler) and node.type is None: complaints.append(f"line {node.lineno}: bare except")
        if isinstance(node, ast.FunctionDef):
            body = [b for b in node.body if not (isinstance(b, ast.Expr) and isinstance(b.value, ast.Constant))]
            if not body or all(isinstance(b, ast.Pass) for b in body): complaints.append(f"{node.name} is empty")
    return complaints

MODULE_RULES = {star_imports: "from numpy import *", undocumented: "def f(): return 1", too_long: "x = 1\n" * (MAX_MODULE + 1),
                unfinished: "try: f()\nexcept: g()"}


# ---- rules over a notebook

def long_cells(nb): return [f"exported cell of {n} lines: {c['source'][:60]!r}" for c in code_cells(nb)
                            if is_export(c["source"]) and (n := len(code_lines(c["source"]))) > MAX_CELL]

def little_prose(nb):
    words = sum(len(c["source"].split()) for c in nb["cells"] if c["cell_type"] == "markdown")
    lines = sum(len(code_lines(c["source"])) for c in code_cells(nb) if is_export(c["source"]))
    return [f"{words} words to {lines} exported lines"] if lines > 30 and words < WORDS_PER_LINE * lines else []

def nothing_shown(nb):
    "Three exports in a row, the import cells at the top left out."
    kinds = "".join("x" if is_export(c["source"]) else "o" for c in code_cells(nb))
    return ["three exported cells in a row with nothing shown between"] if "xxx" in kinds[2:] else []

def not_executed(nb):
    "No outputs at all, a cell that prints without an output, or an error kept as output."
    cells = code_cells(nb)
    complaints = [] if not cells or any(c.get("outputs") for c in cells) else ["no outputs: run it and save"]
    for c in cells:
        if any(o["output_type"] == "error" for o in c.get("outputs", [])): complaints.append(f"error output under {c['source'][:40]!r}")
        if re.search(r"^#\|\s*(eval: false|slow)", c["source"], re.M) or c.get("outputs"): continue
        body = ast.parse(re.sub(r"^[ \t]*[%!].*$", "", c["source"], flags=re.M)).body
        if any(isinstance(s, ast.Expr) and isinstance(s.value, ast.Call) and getattr(s.value.func, "id", "") == "print" for s in body):
            complaints.append(f"prints and shows nothing: {c['source'][:60]!r}")
    return complaints

ABSOLUTE = re.compile(r"(?<![\w.:/<…-])/(?:home|Users|root|work|tmp|var|opt|mnt|srv|private|usr|builds?|workspace)/[\w.]+|\b[A-Z]:\\\\?[A-Za-z]")
COMMON = {"root", "user", "runner", "ubuntu", "localhost", "docker", "admin", "main", "test", "python", "lead", "leadlag"}

def machine_names(text, mine=None):
    "Absolute paths, and the names of whoever and whatever ran it."
    mine = {getpass.getuser(), socket.gethostname(), socket.gethostname().split(".")[0]} if mine is None else mine
    found = [m[0] for m in ABSOLUTE.finditer(text)]
    return found + [n for n in mine if len(n) > 3 and n.lower() not in COMMON and re.search(rf"\b{re.escape(n)}\b", text)]

def machine_in_notebook(nb):
    return [f"{hit!r} in {c['source'][:40]!r}" for c in nb["cells"] for hit in machine_names(c["source"] + "\n" + outputs_text(c))]

def cell(source, **kwargs): return {"cell_type": "code", "source": source, "outputs": [], "metadata": {}, **kwargs}
SHOWN = [{"output_type": "stream", "text": ["ok"]}]
NOTEBOOK_RULES = {
    long_cells: [cell("#| export\n" + "x = 1\n" * (MAX_CELL + 1))],
    little_prose: [cell("#| export\n" + "x = 1\n" * 31)],
    nothing_shown: [cell("#| default_exp x"), cell("#| export\nimport re"), *[cell("#| export\nx = 1")] * 3],
    not_executed: [cell("print(1)"), cell("1", outputs=SHOWN)],
    machine_in_notebook: [cell("1", outputs=[{"output_type": "stream", "text": ["see /ho", "me/ann/x.csv"]}])],
}


# ---- the tests

@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module(path):
    source, module = path.read_text(encoding="utf-8"), ".".join(path.relative_to(ROOT / "leadlag").with_suffix("").parts)
    complaints = upward_imports(source, module, layers(ALL_NOTEBOOKS)) + [c for rule in MODULE_RULES for c in rule(source)]
    edit = re.search(r"File to edit: \.\./(?:\.\./)*(nbs/\S+\.ipynb)", source)
    if not edit or not (ROOT / edit[1]).is_file(): complaints.append("its notebook does not exist: remove the module or restore the notebook")
    assert not complaints, complaints

@pytest.mark.parametrize("path", ALL_NOTEBOOKS, ids=name_of)
def test_notebook(path):
    nb = read(path)
    complaints = [c for rule in NOTEBOOK_RULES for c in rule(nb)]
    if (size := path.stat().st_size) > MAX_NOTEBOOK: complaints.append(f"{size // 1000} kB")
    assert not complaints, complaints

@pytest.mark.parametrize("rule", MODULE_RULES, ids=lambda r: r.__name__)
def test_module_rules_can_fail(rule):
    assert rule(MODULE_RULES[rule]) and not rule('def f():\n    "Give one."\n    return 1')

@pytest.mark.parametrize("rule", NOTEBOOK_RULES, ids=lambda r: r.__name__)
def test_notebook_rules_can_fail(rule):
    good = {"cells": [{"cell_type": "markdown", "source": "Some words of prose."}, cell("#| export\nx = 1"), cell("print(x)", outputs=SHOWN)]}
    assert rule({"cells": NOTEBOOK_RULES[rule]}) and not rule(good)

@pytest.mark.parametrize("source", ["from leadlag.cli import main", "from .cli import main", "def f():\n    import leadlag.cli",
                                    "from leadlag import cli", "from leadlag import scan", "from . import cli"])
def test_upward_imports_are_seen(source):
    numbers = {"core": 0, "env": 41, "cli": 90}
    assert upward_imports(source, "env", numbers)
    assert not upward_imports("from leadlag import __version__\nfrom .core import say\nimport json", "env", numbers)

def test_learners_stay_apart():
    numbers = {"meta_rl.agent": 61, "offline_rl.bc": 71}
    assert upward_imports("from ..meta_rl.agent import x", "offline_rl.bc", numbers)

def parameters_cells(nb): return [c for c in nb["cells"] if "parameters" in c["metadata"].get("tags", [])]

def test_report_templates_have_parameters():
    templates = [p for p in ALL_NOTEBOOKS if p.parent.name == "reports"]
    assert not [p.name for p in templates if len(parameters_cells(read(p))) != 1]
    assert not parameters_cells({"cells": [cell("seed = 0")]})

def unanchored(text):
    "Patterns that could match in any folder, but for three kinds of litter that are nowhere wanted."
    litter = {"**/__pycache__/", "**/.ipynb_checkpoints/", "**/.DS_Store"}
    patterns = [line.strip().removeprefix("!") for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [p for p in patterns if not p.startswith("/") and p not in litter]

def test_ignore_patterns_are_anchored():
    assert not unanchored((ROOT / ".gitignore").read_text())
    assert unanchored("results/\n") == ["results/"] and unanchored("/results/x\n!/results/*.csv\n") == []

def git(*words, **kwargs): return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, **kwargs)

@pytest.mark.skipif(git("rev-parse").returncode != 0, reason="not a git checkout")
def test_nothing_needed_is_ignored():
    assert git("ls-files", "--cached", "--ignored", "--exclude-standard").stdout == "", "a committed file is ignored"
    wanted = "leadlag/meta_rl/agent.py\nresults/examples/rows.csv\nresults/policies/figures/gap.png\nnbs/x.ipynb\n"
    ignored = "results/offline/other.h5\nresults/study/report.html\nresults/cache/x.csv\n_docs/index.html\nmeta_rl/x.csv\n"
    assert git("check-ignore", "--stdin", "--no-index", input=wanted + ignored).stdout == ignored

TEXTS = [p for pattern in ("*.md", "*.cff", "*.ini", "*.toml", "docs/*", "results/**/*.json", "results/**/*.csv", "results/**/*.md") for p in ROOT.glob(pattern) if p.is_file()]

def test_texts_name_no_machine():
    found = {name_of(p): hits for p in [*TEXTS, *MODULES] if (hits := machine_names(p.read_text(encoding="utf-8")))}
    assert not found, found
    assert machine_names("ran on brontosaurus", {"brontosaurus"}) and machine_names(r"C:\Users\ann") and machine_names("(/tmp/x1/y)")
    assert not machine_names("https://x.org/home/a results/tmp/x a/b and/or /results/x", {"root"})

def no_init(folder):
    "Sub-packages that a wheel would lose."
    return sorted({p.parent.name for p in folder.rglob("*.py") if not (p.parent / "__init__.py").exists()})

def test_every_folder_of_code_is_a_package(tmp_path):
    (tmp_path / "lost").mkdir(); (tmp_path / "lost/x.py").write_text(""); (tmp_path / "__init__.py").write_text("")
    assert no_init(tmp_path) == ["lost"]
    assert no_init(ROOT / "leadlag") == [], "nbdev-export makes the missing __init__.py"

def test_versions_agree():
    version = re.search(r'__version__ = "(.+)"', (ROOT / "leadlag/__init__.py").read_text())[1]
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()

def test_packaging_facts_are_complete():
    config = ConfigParser(delimiters=["="]); config.read(ROOT / "settings.ini")
    assert {"name", "requirements", "dev_requirements", "test_requirements", "console_scripts"} <= set(config["DEFAULT"])
    assert "torch>=2.8,<2.14" in config["DEFAULT"]["requirements"], "a wider range takes a build for another machine, of several GB"

PROBE = """
import json, logging, os, random, sys, threading, warnings
import gymnasium.envs.registration  # which has filters of its own
before = (list(warnings.filters), dict(os.environ), os.getcwd(), list(logging.getLogger().handlers), random.getstate())
import leadlag
after = (list(warnings.filters), dict(os.environ), os.getcwd(), list(logging.getLogger().handlers), random.getstate())
kept = ["warning filters", "environment", "working folder", "log handlers", "random state"]
print(json.dumps({"modules": sorted({m.split(".")[0] for m in sys.modules}), "threads": threading.active_count(),
                  "changed": [k for k, a, b in zip(kept, before, after) if a != b]}))
"""

def test_import_is_light_and_quiet(tmp_path):
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    seen = json.loads(done.stdout)
    assert not HEAVY & set(seen["modules"]), HEAVY & set(seen["modules"])
    assert seen["threads"] == 1 and seen["changed"] == [] and not list(tmp_path.iterdir())
