"""The wheel: what is in it, what it asks for, and that it works where there is no checkout."""
import ast, email, json, os, re, shutil, subprocess, sys, sysconfig, zipfile
from configparser import ConfigParser
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
CONFIG = ConfigParser(delimiters=["="]); CONFIG.read(ROOT / "settings.ini", encoding="utf-8")
FACTS = CONFIG["DEFAULT"]
LITTER = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "*.egg-info")
def lines(key): return [line for line in FACTS[key].splitlines() if line.strip()]
def names(key): return {canonicalize_name(Requirement(line).name) for line in lines(key)}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    "A wheel of this tree, built from a copy of what a build needs, with the setuptools that is installed."
    if int(version("setuptools").split(".")[0]) < 77: pytest.skip(f"setuptools is {version('setuptools')}: the build asks for 77 or newer")
    folder = tmp_path_factory.mktemp("wheel"); tree = folder / "tree"
    for name in ("leadlag", "nbs/reports"): shutil.copytree(ROOT / name, tree / name, ignore=LITTER)
    for name in ("settings.ini", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE"): shutil.copy(ROOT / name, tree)
    words = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet", "--wheel-dir", str(folder), str(tree)]
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))

def facts(wheel):
    "The wheel's METADATA."
    with zipfile.ZipFile(wheel) as z: return email.message_from_bytes(z.read(next(n for n in z.namelist() if n.endswith("/METADATA"))))

def test_everything_is_inside(wheel):
    "All modules and assets, the report templates, nothing else; and one copy of the templates in the repository."
    inside = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    mine = {p.relative_to(ROOT).as_posix() for p in (ROOT / "leadlag").rglob("*") if p.is_file() and "__pycache__" not in p.parts and not p.name.startswith(".")}
    templates = {f"leadlag/assets/reports/{p.name}" for p in (ROOT / "nbs/reports").glob("[!._]*.ipynb")}
    assert templates and not templates & mine
    assert inside == mine | templates
    assert {"leadlag/py.typed", "leadlag/assets/belief/belief.npz", "leadlag/assets/katex/katex.min.js", "leadlag/assets/report/page.html"} <= inside

def test_it_says_who_it_is(wheel):
    said = facts(wheel)
    extras = {key.removesuffix("_requirements") for key in FACTS if key.endswith("_requirements")}
    assert set(said.get_all("Provides-Extra")) == extras >= {"dev", "test", "cluster", "stats", "offline", "track"}
    core = {canonicalize_name(Requirement(r).name) for r in said.get_all("Requires-Dist") if "extra ==" not in r}
    assert core == names("requirements") and said["Requires-Python"] == FACTS["python_requires"]
    with zipfile.ZipFile(wheel) as z: entry = z.read(next(n for n in z.namelist() if n.endswith("/entry_points.txt"))).decode()
    assert "leadlag = leadlag.cli:main" in entry


# ---- what is asked for is what is imported

CALLED = {"scikit-learn": "sklearn", "stable-baselines3": "stable_baselines3", "sb3-contrib": "sb3_contrib"}  # package: what is imported
UNNAMED = {"pyarrow": "pandas reads Parquet with it", "jupyter": "the notebooks are opened with it"}             # asked for, imported by nobody here
CARRIED = {"nbformat": "nbconvert", "jupyter_client": "ipykernel", "traitlets": "nbconvert", "pygments": "nbconvert", "IPython": "ipykernel"}  # imported, brought by the other
BESIDE = {"arch": "stats", "distributed": "cluster"}                                                             # imported where it is used, brought by an extra

def imports(source):
    "Top-level names that a module imports from elsewhere."
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import): yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level: yield node.module.split(".")[0]

def test_core_is_what_the_code_imports():
    used = {n for p in (ROOT / "leadlag").rglob("*.py") for n in imports(p.read_text(encoding="utf-8"))} - set(sys.stdlib_module_names) - {"leadlag"}
    asked = {CALLED.get(name, name) for name in names("requirements")}
    assert used - asked == {*CARRIED, *BESIDE}, "an import that no requirement brings, or one of these that is imported no more"
    assert asked - used == set(UNNAMED), "a requirement that nothing imports, or one of these that is imported now"
    for name, by in CARRIED.items():
        assert canonicalize_name(name) in {canonicalize_name(Requirement(r).name) for r in requires(by) if "extra ==" not in r}, f"{by} brings {name} no more: ask for it"
    for name, extra in BESIDE.items(): assert name in names(f"{extra}_requirements")

def test_lock_fits_the_requirements():
    "`make lock` writes it; whoever changes a requirement writes it again."
    pins = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    for key in ("requirements", "dev_requirements", "test_requirements"):
        for need in map(Requirement, lines(key)):
            pin = pins.get(canonicalize_name(need.name))
            assert pin and pin in need.specifier, f"{need} and requirements.lock ({pin}) disagree: make lock"
    assert list(pins) == sorted(pins) and "leadlag" not in pins


# ---- an environment of its own; it reads the packages of this one, so that nothing is fetched

@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    "Variables with which `leadlag` and `python` are those of a fresh environment that holds the wheel."
    place = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    scheme = {"base": str(place), "platbase": str(place), "installed_base": str(place)}
    packages, scripts = (Path(sysconfig.get_path(what, "venv", scheme)) for what in ("purelib", "scripts"))
    packages.joinpath("borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")  # plain: an editable leadlag in there is not followed, and ours comes first
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LEADLAG_RESULTS")}
    clean |= {"LEADLAG_CACHE": str(place / "cache"), "JUPYTER_PATH": str(Path(sysconfig.get_path("data")) / "share/jupyter"),  # nbconvert's templates lie beside the borrowed packages
              "PATH": os.pathsep.join([str(scripts), os.environ["PATH"]])}
    words = ["-m", "pip", "--python", str(scripts / "python"), "install", "--no-deps", "--no-index", "--force-reinstall", "--disable-pip-version-check", "--quiet", str(wheel)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=clean)
    assert done.returncode == 0, done.stderr
    where = subprocess.run(["python", "-c", "import leadlag; print(leadlag.__file__)"], capture_output=True, text=True, env=clean, cwd=place).stdout
    assert str(place) in where, where
    return clean

@pytest.mark.skipif(not os.environ.get("LEADLAG_TEST_INSTALL"), reason="installs into a fresh environment, half a minute: set LEADLAG_TEST_INSTALL=1")
def test_it_works_without_a_checkout(installed, tmp_path):
    "See also test_scripts, which goes on."
    def leadlag(*words):
        done = subprocess.run(["leadlag", *words], capture_output=True, text=True, env=installed, cwd=tmp_path)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout
    assert re.fullmatch(r"leadlag \d+\.\d+\.\d+\n", leadlag("--version"))
    assert "study" in json.loads(leadlag("report", "list", "--json")) and leadlag("report", "list").startswith("compare")
    leadlag("example", ".")
    assert json.loads(leadlag("report", "run", "study", "-f", "nightly.json", "--dry-run"))["parameters"] == json.loads((tmp_path / "nightly.json").read_text())
