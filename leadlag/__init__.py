"""A notebook-first laboratory for lead-lag trading under changing market regimes."""
import sys
from pathlib import Path

__version__ = "0.1.0"

_ENVIRONMENTS = {"leadlag/LeadLag-v0": ("leadlag.env:LeadLagEnv", "leadlag.env:LeadLagVectorEnv"),
                 "leadlag/LeadLagUniverse-v0": ("leadlag.universe_env:LeadLagUniverseEnv", "leadlag.universe_env:LeadLagUniverseVectorEnv")}


def _is_command():
    "Whether this process is the `leadlag` command, which makes its environments without asking Gymnasium for a name."
    words = sys.orig_argv
    return Path(sys.argv[0]).name == "leadlag" if sys.argv[:1] != ["-m"] else ("-m", "leadlag") in zip(words, words[1:])


def _register():
    "Tell Gymnasium where the environments are, as text, so that nothing heavy is imported."
    from gymnasium.envs.registration import register, registry
    for name, (one, many) in _ENVIRONMENTS.items():
        if name not in registry: register(name, entry_point=one, vector_entry_point=many)


if not (getattr(sys, "argv", None) and _is_command()): _register()  # Gymnasium takes three times as long as all else that `leadlag --help` needs

_LAZY = {"LeadLagEnv": "env", "LeadLagVectorEnv": "env", "EnvSpec": "engine.spec", "Regime": "markets.regimes",
         "LeadLagUniverseEnv": "universe_env", "LeadLagUniverseVectorEnv": "universe_env", "UniverseSpec": "universe_market",
         "simulate": "markets.synthetic", "simulate_universe": "universe_panel", "read_prices": "markets.historical", "scan": "scanning", "verify": "governance.provenance",
         "compare": "comparing", "index": "run_index:read_index", "play": "backtest",
         "lead_lag": "estimators.lead_lag", "lead_lag_matrix": "estimators.lead_lag", "rolling_lead_lag": "estimators.lead_lag",
         "LeadLag": "estimators.result", "LeadLagMatrix": "estimators.result", "notice": "estimators.notice"}
__all__ = sorted(_LAZY)


def __getattr__(name):
    "Public names, imported when they are first used."
    if name not in _LAZY: raise AttributeError(f"module 'leadlag' has no attribute {name!r}")
    from importlib import import_module
    module, _, there = _LAZY[name].partition(":")  # "module", or "module:name" where it is called otherwise there
    return getattr(import_module(f"leadlag.{module}"), there or name)


def __dir__(): return sorted([*globals(), *_LAZY])
