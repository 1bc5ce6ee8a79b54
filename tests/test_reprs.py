"""What the objects of the package say of themselves: a sentence, never the place in memory, never the numbers of an array."""
import dataclasses, inspect, re, tempfile
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import leadlag as ll
from test_house import MODULES, ROOT

LONGEST, MOST_LINES = 300, 40
PLAIN = {int, float, str, bool, tuple, dict, list, slice, Path, type(None)}
MANY = re.compile(r"array\(|object at 0x|<function|<bound method|dtype[=:]|Empty DataFrame|\.\.\.\n")

def public_classes():
    "Every class that a module defines for others, errors aside."
    for path in MODULES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for kind in vars(import_module(name)).values():
            if inspect.isclass(kind) and kind.__module__ == name and not kind.__name__.startswith("_") and not issubclass(kind, BaseException): yield kind

def generated(kind): return dataclasses.is_dataclass(kind) and hasattr(kind.__repr__, "__wrapped__")
def is_plain(kind):
    "Whether a field of this type may be printed as it is."
    parts = getattr(kind, "__args__", ()) if not isinstance(kind, type) or hasattr(kind, "__origin__") else ()
    kinds = [p for p in parts if isinstance(p, type) or hasattr(p, "__args__")] or ([] if parts else [kind])
    return all(k in PLAIN or k is Ellipsis or (isinstance(k, type) and k.__module__.startswith("leadlag.")) or (hasattr(k, "__args__") and is_plain(k)) for k in kinds)

def speechless(kind):
    "Why a class cannot be trusted to say anything."
    if kind.__repr__ is object.__repr__: return f"{kind.__qualname__} says where in memory it is: give it a __repr__ of one sentence"
    if generated(kind) and (wild := [f.name for f in dataclasses.fields(kind) if not is_plain(f.type)]): return f"{kind.__qualname__} prints {', '.join(wild)} in full: give it a __repr__, such as core.brief"

def too_much(thing):
    "Why what an object says is no sentence."
    text, complaints = repr(thing), []
    if found := MANY.search(text): complaints.append(f"{found[0]!r} in its repr")
    if text.count("\n") > MOST_LINES or ("\n" not in text and len(text) > LONGEST): complaints.append(f"its repr has {len(text)} characters")
    if (rich := getattr(thing, "_repr_html_", None)) and (found := MANY.search(page := rich()) or (len(page) > 40_000)): complaints.append(f"its page has {len(page)} characters, or an array")
    return complaints

@pytest.mark.parametrize("kind", list(public_classes()), ids=lambda k: f"{k.__module__[8:]}.{k.__name__}")
def test_every_class_has_words(kind): assert not speechless(kind), speechless(kind)

def test_the_rules_can_fail():
    @dataclasses.dataclass
    class Wild: x: np.ndarray
    @dataclasses.dataclass
    class Tame: x: int | None; y: tuple[str, ...] = ()
    class Mute: pass
    assert speechless(Wild) and speechless(Mute) and not speechless(Tame)
    assert too_much(Wild(np.zeros(3))) and too_much(Mute()) and too_much("x" * 400) and not too_much(Tame(3))


# ---- real ones, made by what a user calls

HOME = tempfile.TemporaryDirectory()

@cache
def prices():
    from leadlag.examples import example_prices
    return ll.read_prices(example_prices())

@cache
def paths(): return ll.simulate("bull", n=3, bars=400, seed=7)

@cache
def found(): return ll.scan(prices(), max_lag=5, n_null=20)

@cache
def logged():
    from leadlag.core import write_atomic
    from leadlag.offline_rl.log_trajectories import LogTrajectories, log_trajectories
    folder = Path(HOME.name); log_trajectories(LogTrajectories(output=str(folder / "log.h5"), episodes=4, length=64))
    write_atomic(folder / "mine.txt", "more")
    return folder

def of(module, name): return getattr(import_module(f"leadlag.{module}"), name)
def pair(): return dict(leader=paths().leader[0], follower=paths().follower[0])
def lanes(): return of("env", "LeadLagVectorEnv")(4, length=32)
def rolled(venv): venv.reset(seed=0); return venv.rollout(np.ones((4, 10), int))
def judged(): return of("backtest", "play")("momentum", n=6)

MADE = {
    "Paths": paths, "Pair": lambda: prices().pair(leader="US", follower="JP"), "Prices": prices, "Scan": found, "Backtest": lambda: found().backtest(),
    "LeadLag": lambda: ll.lead_lag(**pair()), "LeadLagMatrix": lambda: ll.lead_lag_matrix(prices().returns), "RollingLeadLag": lambda: ll.rolling_lead_lag(**pair()),
    "Belief": lambda: of("estimators.regime_filter", "run_filter")(**pair()), "GridBelief": lambda: of("estimators.grid_filter", "run_grid")(**pair()),
    "Told": lambda: of("estimators.particle_filter", "run_particles")(**pair()), "Notice": lambda: ll.notice(**pair()),
    "RegimeFilter": lambda: of("estimators.regime_filter", "RegimeFilter")(), "GridFilter": lambda: of("estimators.grid_filter", "GridFilter")(),
    "EnvSpec": lambda: ll.EnvSpec(market=prices().levels, leader="US", follower=("JP", "AU")), "UniverseSpec": lambda: ll.UniverseSpec(market=prices().levels),
    "Panel": lambda: of("universe_panel", "as_universe")(prices()), "Planted": lambda: ll.simulate_universe(bars=300),
    "LeadLagEnv": lambda: ll.LeadLagEnv(market=prices(), leader="US", follower="JP"), "LeadLagVectorEnv": lanes, "Lanes": lambda: lanes().lanes, "Rollout": lambda: rolled(lanes()),
    "LeadLagUniverseEnv": lambda: ll.LeadLagUniverseEnv(market=prices(), length=64), "LeadLagVecEnv": lambda: of("sb3", "LeadLagVecEnv")(4),
    "Outcome": judged, "Played": lambda: of("measures", "played")(judged()), "Split": lambda: of("governance.splits", "walk_forward")(300)[0],
    "Interval": lambda: of("stats.aggregate", "interval")([1., 2., 3., 4.]), "Swept": lambda: of("sweep", "Swept")([{"seed": 1, "ratio": .5}] * 30, {"a": "it broke"}, 2),
    "Dataset": lambda: of("offline_rl.store", "read_store")(logged() / "log.h5"), "Store": lambda: of("offline_rl.store", "open_store")(logged() / "log.h5"),
    "Verification": lambda: ll.verify(logged(), strict=False), "RunIndex": lambda: of("run_index", "read_index")(ROOT / "results/examples"),
    "Run": lambda: of("comparing", "read_run")(ROOT / "results/policies"), "LearnedPolicy": lambda: of("meta_rl.train_belief", "LearnedPolicy")(),
}

@pytest.mark.parametrize("name", MADE)
def test_results_are_brief(name):
    thing = MADE[name]()
    assert type(thing).__name__ == name and not too_much(thing), (repr(thing)[:400], too_much(thing))

RICH = {"Paths", "Pair", "Prices", "Scan", "Backtest", "LeadLag", "LeadLagMatrix", "RollingLeadLag", "Belief", "GridBelief", "Told", "Notice", "Panel", "Planted", "Rollout",
        "Outcome", "Played", "Swept", "Dataset", "Verification", "RunIndex", "Run"}  # what a notebook shows as a table

@pytest.mark.parametrize("name", sorted(RICH))
def test_results_show_a_table(name): assert "<table" in MADE[name]()._repr_html_()
