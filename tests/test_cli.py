"""The command line from outside, where a notebook cannot stand: other processes, terminals, pipes; and the promises that hold for every verb."""
import io, json, os, re, shutil, subprocess, sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path

import pytest

from leadlag.cli import ABOUT, EXAMPLES, help_text, main
from leadlag.command import as_words, bare, parse
from leadlag.completion import flags
from leadlag.core import UsageError, records
from leadlag.verbs import VERBS

ROOT = Path(__file__).parent.parent
HEAVY = {"gymnasium", "numpy", "pandas", "numba", "scipy", "sklearn", "matplotlib", "torch", "stable_baselines3", "h5py", "papermill", "nbconvert", "tyro"}
MODULE, SCRIPT = [sys.executable, "-m", "leadlag"], [str(Path(sys.executable).parent / "leadlag")]
needs_script = pytest.mark.skipif(not Path(SCRIPT[0]).exists(), reason="the script is not installed beside this interpreter")
both = pytest.mark.parametrize("command", [pytest.param(MODULE, id="module"), pytest.param(SCRIPT, id="script", marks=needs_script)])

def settings(verb):
    module, _, config, _ = VERBS[verb]
    return getattr(import_module(f"leadlag.{module}"), config)

def run(*words, cwd=None, command=MODULE, **env):
    "The command in a process of its own, away from a terminal; this checkout is the package."
    clean = {k: v for k, v in os.environ.items() if k not in ("LEADLAG_RESULTS", "NO_COLOR")}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return subprocess.run([*command, *map(str, words)], cwd=cwd, env=clean | {"PYTHONPATH": path} | env, capture_output=True, text=True, timeout=300)

def typed(*words):
    "The command in this process: stdout, stderr, status."
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err: status = main(list(map(str, words)))
    return out.getvalue(), err.getvalue(), status


# ---- hello

@both
def test_help_comes_before_anything_heavy(command, tmp_path):
    "Asked of the imports and not of the clock, which belongs to the machine; see also 90_cli."
    done = run("--help", command=command, cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert done.returncode == 0 and "leadlag" in loaded and not HEAVY & loaded, HEAVY & loaded
    assert done.stdout == help_text() + "\n" and done.stdout.splitlines()[2] == EXAMPLES.splitlines()[0]  # opens with examples

@needs_script
@pytest.mark.parametrize("words", [["--version"], ["stduy"], ["report", "list", "--json"]])
def test_script_and_module_are_one(words, tmp_path):
    one, other = (run(*words, command=c, cwd=tmp_path) for c in (MODULE, SCRIPT))
    assert (one.stdout, one.stderr, one.returncode) == (other.stdout, other.stderr, other.returncode)

@pytest.mark.parametrize("order", ["import leadlag, gymnasium as gym", "import gymnasium as gym, leadlag"])
def test_environments_are_registered_for_everybody_else(order, tmp_path):
    "The command leaves this out; a program of one's own gets it in whatever order it imports."
    done = run("-c", f"{order}; print(gym.spec('leadlag/LeadLag-v0').entry_point, gym.spec('leadlag/LeadLagUniverse-v0').entry_point)", command=[sys.executable], cwd=tmp_path)
    assert done.stdout == "leadlag.env:LeadLagEnv leadlag.universe_env:LeadLagUniverseEnv\n", done.stderr

def test_every_public_name_is_there():
    "Each is imported when it is first used; those that read runs say the same as the verbs."
    import leadlag as ll
    assert {"scan", "compare", "index", "verify", "play"} <= set(ll.__all__) <= set(dir(ll)) and all(callable(getattr(ll, name)) for name in ll.__all__)
    chosen = {"split": "held-out", "kappa": 0}; two = ("PPO, belief", "best fixed lookback")
    said = typed("compare", ROOT / "results/policies", "--policies", *two, "--where", *(f"{k}={v}" for k, v in chosen.items()), "--json")[0]
    ours = ll.compare(ROOT / "results/policies", policies=two, where=chosen)
    assert json.loads(said)["differences"] == records(ours.differences) and "<table" in ours._repr_html_()
    assert [r["folder"] for r in json.loads(typed("index", ROOT / "results/examples", "--json")[0])] == [r.folder for r in ll.index(ROOT / "results/examples").rows]

def test_ten_minutes_of_a_researcher(tmp_path):
    "As printed for people who come from Gymnasium, without an import of ours."
    code = """import gymnasium as gym
env = gym.make("leadlag:leadlag/LeadLag-v0", regime="bull")
_, info = env.reset(seed=0); assert {"regime", "lookback", "mean"} <= set(info["truth"]) and info["truth"]["regime"] == "bull"
venv = gym.make_vec("leadlag:leadlag/LeadLag-v0", 1024, vectorization_mode="vector_entry_point")
assert venv.reset(seed=0)[0].shape[0] == 1024"""
    done = run("-c", code, command=[sys.executable], cwd=tmp_path)
    assert done.returncode == 0, done.stderr


# ---- streams, colours, talk

@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    "A folder with what `leadlag example` writes."
    folder = tmp_path_factory.mktemp("tried")
    assert typed("example", folder)[2] == 0
    return folder

def test_data_and_talk_are_apart(tried):
    done = run("scan", "prices.csv", "--max-lag", "3", "--json", cwd=tried)
    first = json.loads(done.stdout)["pairs"][0]
    assert (first["leader"], first["follower"], first["lag"]) == ("US", "JP", 1) and "Prices(prices" in done.stderr
    wrong = run("scan", "absent.csv", cwd=tried)
    assert wrong.returncode == 2 and wrong.stdout == "" and wrong.stderr.count("\n") == 1

def test_every_reading_verb_has_json():
    "A verb either leaves something in a folder or can be read by a program."
    places = {"output", "output_root", "output_dir"}
    reads = {verb for verb in VERBS if not places & (names := {f.name for f in fields(settings(verb))}) or "json" in names}
    assert {v for v in reads if "json" not in {f.name for f in fields(settings(v))}} == {"example", "data fetch", "bench all"}  # these write; they print where
    assert {"scan", "verify", "reproduce", "report list", "report params", "data list", "sweep"} <= reads

def at_a_terminal(*words, **env):
    "What a process writes when both streams are a terminal."
    pty = pytest.importorskip("pty", reason="terminals are made by pty, and there is none")
    import fcntl, struct, termios
    mine, its = pty.openpty(); fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # a terminal of no width gets no progress bar
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(words, stdin=its, stdout=its, stderr=its, env={k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm", "PYTHONPATH": path} | env)
    os.close(its); seen = b""
    try:
        while chunk := os.read(mine, 65536): seen += chunk
    except OSError: pass  # how Linux says that the other end is closed
    os.close(mine); process.wait()
    return seen.decode()

@pytest.mark.parametrize("words", [["verify", "--help"], ["--help"], ["scan", "--topp", "3"], ["stduy"]])
def test_no_color_is_respected(words):
    assert "\x1b[" not in at_a_terminal(*MODULE, *words, NO_COLOR="1")

def test_progress_is_for_terminals_only():
    code = "from leadlag.core import progress\nfor _ in progress(range(3), 'counting'): pass"
    assert "counting" in at_a_terminal(sys.executable, "-c", code)
    assert run("-c", code, command=[sys.executable]).stderr == ""

def test_the_log_is_silent_until_somebody_listens():
    code = "import logging, leadlag.core as c\nlog = logging.getLogger('leadlag'); log.warning('unheard')\nassert any(isinstance(h, logging.NullHandler) for h in log.handlers) and not logging.getLogger().handlers"
    done = run("-c", code, command=[sys.executable])
    assert done.returncode == 0 and done.stderr == "", done.stderr


# ---- words

@pytest.mark.parametrize("verb", VERBS)
def test_settings_go_out_as_words_and_come_back(verb, monkeypatch):
    "What `--config`, `reproduce` and a sweep rest on; tried with values that are not the defaults."
    monkeypatch.delenv("LEADLAG_RESULTS", raising=False)
    config, asked = settings(verb), {}
    for f in fields(config):
        if f.default is MISSING: asked[f.name] = ("x", "y") if "tuple" in str(f.type) else "x"
        elif isinstance(f.default, bool): asked[f.name] = not f.default and f.name != "counterfactual"  # that one has company it needs
        elif isinstance(f.default, (int, float)) and f.name not in ("workers", "strength"): asked[f.name] = f.default / 2 + .1 if isinstance(f.default, float) else f.default + 1
    assert parse(config, as_words(config, asked), verb, "") == config(**asked)

@pytest.mark.parametrize("verb", [v for v in VERBS if len(fields(settings(v))) > len(bare(settings(v)))])
def test_a_mistyped_flag_is_answered_with_the_right_one(verb):
    flag = max((f.name.replace("_", "-") for f in fields(settings(verb)) if f.name not in bare(settings(verb)) and f.default is not True), key=len)
    needed = ["x" for f in fields(settings(verb)) if f.default is MISSING]
    out, err, status = typed(*verb.split(), *needed, f"--{flag[:1]}{flag[2:]}")  # its second letter is lost
    assert status == 2 and out == "" and set(re.findall(r"did you mean (--[\w-]+)\?", err)) & set(flags(verb)), err

def test_of_two_names_the_nearer_is_meant():
    assert "did you mean --max-lag?" in typed("scan", "prices.csv", "--max-lags", "3")[1] and "did you mean --lags?" in typed("scan", "prices.csv", "--lag", "3")[1]

@pytest.mark.parametrize("words", [["train", "ppo"], ["history"], ["offline", "train"], ["sweep"]])
def test_help_shows_what_will_be_used(words, monkeypatch):
    monkeypatch.setenv("LEADLAG_RESULTS", "there"); monkeypatch.setenv("NO_COLOR", "1")
    out, err, status = typed(*words, "--help")
    assert status == 0 and "(default: there/" in " ".join(out.split()) and "(default: results/" not in " ".join(out.split()), out

@pytest.mark.parametrize("verb", VERBS)
def test_a_mistyped_verb_is_answered_with_the_right_one(verb):
    *group, word = verb.split()
    assert repr(word) in typed(*group, word[:-1] + "q")[1]

def test_completion_is_read_by_the_shell():
    out, err, status = typed("--completion", "bash")
    assert status == 0 and err == "" and subprocess.run(["bash", "-n"], input=out, text=True, capture_output=True).stderr == ""
    for shell in ("zsh", "fish"): assert typed("--completion", shell)[2] == 0


# ---- settings of an earlier run, and where things go

def test_a_saved_configuration_is_a_configuration(tmp_path, monkeypatch):
    "A run, the same from its config.json, and the same from its manifest: equal bytes; what is typed goes before what is saved."
    monkeypatch.chdir(tmp_path); monkeypatch.setenv("LEADLAG_RESULTS", "there")
    assert typed("train", "ppo", "--steps", 2048, "--eval-paths", 6, "--seed", 3)[2] == 0
    assert (tmp_path / "there/ppo/config.json").is_file() and not (tmp_path / "results").exists()
    said = typed("train", "ppo", "--config", "there/ppo/config.json", "--output", "again")
    assert said[2] == 0, said[1]
    for name in ("config.json", "summary.csv", "episodes.csv"): assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "there/ppo" / name).read_bytes(), name
    from leadlag.agents.ppo import TrainPPO
    other = parse(TrainPPO, ["--config", "there/ppo/data_manifest.json", "--seed", "4"], "train ppo", "")
    assert (other.steps, other.eval_paths, other.seed) == (2048, 6, 4)
    (tmp_path / "typo.json").write_text('{"stepz": 5}')
    with pytest.raises(UsageError, match="did you mean 'steps'"): parse(TrainPPO, ["--config", "typo.json"], "train ppo", "")

def test_environment_variables_are_on_one_page():
    "Each that the package reads is named in `leadlag --help` and on the page of settings; neither names one that nobody reads."
    read = {name for p in (ROOT / "leadlag").rglob("*.py") for name in re.findall(r"environ(?:\.get\(|\[)?\"?\W*\"?(LEADLAG_\w+|NO_COLOR)", p.read_text(encoding="utf-8"))}
    read |= {name for p in (ROOT / "leadlag").rglob("*.py") for name in re.findall(r'"(LEADLAG_\w+)" in os\.environ', p.read_text(encoding="utf-8"))}
    page = "".join("".join(c["source"]) for c in json.loads((ROOT / "nbs/92_settings.ipynb").read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "markdown")
    assert read == {"LEADLAG_RESULTS", "LEADLAG_CACHE", "NO_COLOR"}
    assert set(re.findall(r"LEADLAG_\w+|NO_COLOR", ABOUT)) == read <= set(re.findall(r"LEADLAG_\w+|NO_COLOR", page))


# ---- statuses

def notebook(path, *code):
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook
    nbformat.write(new_notebook(cells=[new_code_cell("seed = 1", metadata={"tags": ["parameters"]}), *map(new_code_cell, code)]), path)

@pytest.fixture
def here(tmp_path, monkeypatch):
    "An empty working folder, and nothing set."
    monkeypatch.chdir(tmp_path); monkeypatch.delenv("LEADLAG_RESULTS", raising=False)
    return tmp_path

def refused(status, word, *words):
    "One sentence, no traceback; gives what is on stdout and stderr."
    out, err, got = typed(*words)
    assert got == status and word in err and "Traceback" not in err and err.splitlines()[-1].startswith("leadlag: "), (got, err)
    return out, err

def test_status_1_names_what_is_left(here):
    "A report that breaks leaves the notebook as far as it came, and no folder."
    notebook(here / "mine.ipynb", "print(seed)", "1 / 0")
    out, err = refused(1, "ZeroDivisionError", "report", "run", "mine.ipynb", "--output", "out")
    assert "out.failed.ipynb" in err and out == "" and sorted(p.name for p in here.iterdir()) == ["mine.ipynb", "out.failed.ipynb"]

def test_our_own_errors_are_not_wrapped(here):
    "What a cell of a report refuses is said as it was said there, and then where the notebook is."
    out, err = refused(2, "scan.failed.ipynb", "report", "run", "scan", "-p", "prices", "absent.csv", "--output", "scan")
    assert err.splitlines()[-1].startswith("leadlag: absent.csv") and "cell" not in err.partition(";")[0], err

def test_columns_are_asked_for_by_either_comma(tried, monkeypatch):
    monkeypatch.chdir(tried)
    found = [json.loads(typed("scan", "prices.csv", "--max-lag", "2", "--n-null", "20", "--json", "--columns", *names)[0])["pairs"][0] for names in (["US,JP"], ["US", "JP"])]
    assert found[0] == found[1] and found[0]["follower"] == "JP"
    Path("other.csv").write_text(Path("prices.csv").read_text().replace("US,JP,GB,AU", "ONE,TWO,THREE,FOUR"))
    out, err, status = typed("scan", "other.csv", "--columns", "US,JP")
    assert status == 2 and "unknown column 'US': known are ONE, TWO, THREE, FOUR" in err

def test_status_2_is_usage(here):
    "A word, a file, a parameter that is unknown or read by nobody."
    notebook(here / "unread.ipynb", "print(1)")
    for words, said in ((["verfy"], "verify"), (["scan", "absent.csv"], "absent.csv"), (["report", "run", "study", "-p", "sed", "7"], "unknown parameter 'sed'"), (["report", "params", "unread.ipynb"], "no cell reads it")):
        refused(2, said, *words)

def test_status_3_is_data(here):
    import h5py, numpy as np
    with h5py.File(here / "whole.h5", "w") as f: f["observations"] = np.zeros((5000, 8))
    (here / "short.h5").write_bytes((here / "whole.h5").read_bytes()[:40_000])
    refused(3, "short.h5", "offline", "train", "--dataset", "short.h5")

def test_status_4_is_time(here):
    notebook(here / "slow.ipynb", "import time; time.sleep(60 * seed)")
    refused(4, "--timeout", "report", "run", "slow.ipynb", "--output", "out", "--timeout", "3"); assert not (here / "out").exists()

def test_status_5_is_a_file_that_changed(here):
    shutil.copytree(ROOT / "results/appending", here / "run")
    assert typed("verify", "run")[2] == 0
    with open(here / "run/rows.csv", "a") as f: f.write(" ")
    for words in (["verify", "run"], ["reproduce", "run", "--run"]): refused(5, "rows.csv", *words)

def test_a_dry_run_leaves_nothing(tried, monkeypatch):
    "What would be run, every parameter with its value; test_scripts goes on."
    monkeypatch.chdir(tried)
    assert {"study", "scan", "meta_transfer", "online_ppo", "offline", "compare"} <= set(json.loads(typed("report", "list", "--json")[0]))
    takes = json.loads(typed("report", "params", "study", "--json")[0])
    dry = json.loads(typed("report", "run", "study", "-p", "seed", "8", "-f", "nightly.json", "--timeout", "900", "--dry-run")[0])
    assert set(dry["parameters"]) == set(takes) and dry["parameters"]["seed"] == 8 and not (tried / "results").exists()
