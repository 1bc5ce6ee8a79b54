"""The ten-minute scripts, as they are printed for a quant, a researcher and an engineer: in an empty folder, after `leadlag example .` has written what they read.

Twice. In the ordinary run the commands go through this process and a training is cut short. With LEADLAG_TEST_INSTALL=1 a wheel of this tree is installed into an
environment of its own, and every line is typed into a shell there, number for number (four minutes)."""
import os, re, shlex, subprocess, sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from test_cli import ROOT, typed
from test_wheel import installed, wheel  # noqa: F401, two fixtures

# A line that begins with a dollar is typed into a shell, the others into Python.
QUANT = """\
$ leadlag scan prices.csv --max-lag 20 --cost-bp 5 --execution-lag 1     # table + HTML
$ leadlag scan prices.csv --json                                         # {"pairs": [{leader, follower, lag, corr, ci_low, ci_high, p, q, holds_oos, n}, …], …}
import leadlag as ll
p = ll.read_prices("prices.csv")      # path, pandas or polars; says what was dropped and why; kind="levels"|"returns"
s = ll.scan(p, max_lag=20)            # rich repr
s.pairs                               # leader follower lag corr ci_low ci_high p q holds_oos n
s.plot_network(); s.plot_ccf("US", "JP")
s.backtest(execution_lag=1, cost_bp=5).summary()      # prediction | profit, apart
s.report("scan.html")
"""
RESEARCHER = """\
import gymnasium as gym
env  = gym.make("leadlag:leadlag/LeadLag-v0", regime="bull")     # info["truth"]: regime, lookback, conditional mean
venv = gym.make_vec("leadlag:leadlag/LeadLag-v0", 1024, vectorization_mode="vector_entry_point")
$ leadlag train ppo --steps 200_000 --seed 0
$ leadlag offline log
$ leadlag offline train
$ leadlag compare RUN RUN
"""
ENGINEER = """\
$ leadlag report list ; leadlag report params study
$ leadlag report run study -p seed 7 -f nightly.json --timeout 900 --dry-run
$ leadlag index results ; leadlag verify results/<run>
"""
ZOO = "python -m rl_zoo3.train --algo ppo --env leadlag/LeadLag-v0 --gym-packages leadlag"

# What no script says but a reader would check at once; in Python, after its lines.
ASKED = {QUANT: """
assert list(s.pairs)[:10] == "leader follower lag corr ci_low ci_high p q holds_oos n".split() and (s.pairs.leader[0], s.pairs.follower[0], s.pairs.lag[0]) == ("US", "JP", 1)
assert "US leads JP by 1 bar" in repr(s) and "<table" in s._repr_html_() and "dropped: 1" in repr(p)
assert list(dict.fromkeys(s.backtest(execution_lag=1, cost_bp=5).summary().columns.get_level_values(0)))[0] == "prediction"
assert b"US leads JP" in open("scan.html", "rb").read()
""", RESEARCHER: """
truth = env.reset(seed=0)[1]["truth"]; assert {"regime", "lookback", "mean"} <= set(truth) and truth["regime"] == "bull"
assert venv.reset(seed=0)[0].shape[0] == 1024
"""}
SAID = {"example": "prices.csv", "scan": "US leads JP by 1 bar", "train ppo": "", "offline log": "", "offline train": "of the oracle", "compare": "every seed",
        "report list": "study", "report params": "seed", "report run": '"seed": 7', "index": "index.html", "verify": "verified"}  # a word of what each prints

def shell(script): return [line for line in script.splitlines() if line.startswith("$ ")]
def python(script): return "".join(f"{line}\n" for line in script.splitlines() if not line.startswith("$ "))

def commands(script, **cut):
    "The shell's lines as single commands, a placeholder filled, a number cut short."
    fill = {"RUN RUN": "results/ppo results/offline", "results/<run>": "results/ppo", **cut}
    for line in shell(script):
        for old, new in fill.items(): line = line.replace(old, new)
        yield from (words for part in line[2:].split(" ; ") if (words := shlex.split(part, comments=True)))

def check(words, out, err, status):
    "Status 0 and the word; the runs of one seed each cannot be told apart, which `compare` says in so many words."
    verb = next(v for v in SAID if words[1:1 + len(v.split())] == v.split())
    assert status == (2 if verb == "compare" else 0) and SAID[verb] in out and "Traceback" not in err, (words, out, err)
    if verb == "compare": assert "at least 3 seeds" in err


# ---- in this process, a training cut to seconds

@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "An empty folder, and what the example writes."
    here = tmp_path_factory.mktemp("empty"); check(["leadlag", "example"], *typed("example", here))
    return here

@pytest.mark.parametrize("script", [QUANT, RESEARCHER, ENGINEER], ids=["quant", "researcher", "engineer"])
def test_as_printed(script, folder, monkeypatch):
    monkeypatch.chdir(folder); monkeypatch.delenv("LEADLAG_RESULTS", raising=False)
    if script == ENGINEER and not Path("results/ppo").is_dir(): check(["leadlag", "train", "ppo"], *typed("train", "ppo", "--steps", 2048, "--eval-paths", 3))  # run alone
    for words in commands(script, **{"200_000": "4_096 --eval-paths 12"}): check(words, *typed(*words[1:]))
    exec(compile(python(script) + ASKED.get(script, ""), "script", "exec"), {})
    import matplotlib.pyplot as plt
    plt.close("all")

def test_runs_of_three_seeds_are_told_apart(folder, monkeypatch):
    "RUN RUN as one would have them: a pattern for each contender."
    monkeypatch.chdir(folder)
    for seed in range(3):
        for what in ("belief", "raw"): assert typed("train", "ppo", "--steps", 2048, "--eval-paths", 6, "--seed", seed, "--observe", what, "--output", f"runs/{what}_{seed}")[2] == 0
    out, err, status = typed("compare", "runs/belief_*", "runs/raw_*")
    assert status == 0 and "belief − raw, on identical seeds" in out and "n=3" in out, (out, err)

@pytest.mark.skipif(not find_spec("rl_zoo3"), reason="rl_zoo3 is not installed, and no extra asks for it: it holds pillow, python-dateutil and chardet at older releases")
def test_the_zoo_finds_the_environment(tmp_path):
    "The same line with 300 steps; as printed it trains for a million."
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run([sys.executable, *ZOO.split()[1:], "-n", "300", "--hyperparams", "n_steps:64", "batch_size:64"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0 and "Saving to logs/ppo/leadlag-LeadLag-v0_1" in done.stdout, done.stdout + done.stderr
    assert (tmp_path / "logs/ppo/leadlag-LeadLag-v0_1/leadlag-LeadLag-v0.zip").is_file()


# ---- from the wheel, as a stranger types it

@pytest.mark.skipif(not os.environ.get("LEADLAG_TEST_INSTALL"), reason="installs a wheel into a fresh environment and trains as long as is printed, four minutes: set LEADLAG_TEST_INSTALL=1")
def test_as_printed_from_the_wheel(installed, tmp_path):  # noqa: F811
    def typed_there(words, env=installed):
        done = subprocess.run(words, capture_output=True, text=True, env=env, cwd=tmp_path)
        return done.stdout, done.stderr, done.returncode
    check(["leadlag", "example"], *typed_there(["leadlag", "example", "."]))
    for script in (QUANT, RESEARCHER, ENGINEER):
        if lines := python(script):
            (tmp_path / "script.py").write_text(lines + ASKED[script], encoding="utf-8")
            out, err, status = typed_there(["python", "script.py"]); assert status == 0, err
        for words in commands(script): check(words, *typed_there(words))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["nightly.json", "prices.csv", "results", "scan.html", "script.py"]
