"""A notebook-first laboratory for lead-lag trading under changing market regimes."""
from gymnasium.envs.registration import register, registry

__version__ = "0.1.0"

if "leadlag/LeadLag-v0" not in registry:
    register("leadlag/LeadLag-v0", entry_point="leadlag.env:LeadLagEnv", vector_entry_point="leadlag.env:LeadLagVectorEnv")
    register("leadlag/LeadLagUniverse-v0", entry_point="leadlag.universe_env:LeadLagUniverseEnv", vector_entry_point="leadlag.universe_env:LeadLagUniverseVectorEnv")

_LAZY = {"LeadLagEnv": "env", "LeadLagVectorEnv": "env", "EnvSpec": "engine.spec", "Regime": "markets.regimes",
         "LeadLagUniverseEnv": "universe_env", "LeadLagUniverseVectorEnv": "universe_env", "UniverseSpec": "universe_market",
         "simulate": "markets.synthetic", "simulate_universe": "universe_panel", "read_prices": "markets.historical", "scan": "scanning", "verify": "governance.provenance",
         "lead_lag": "estimators.lead_lag", "lead_lag_matrix": "estimators.lead_lag", "rolling_lead_lag": "estimators.lead_lag",
         "LeadLag": "estimators.result", "LeadLagMatrix": "estimators.result", "notice": "estimators.notice"}
__all__ = sorted(_LAZY)


def __getattr__(name):
    "Public names, imported when they are first used."
    if name not in _LAZY: raise AttributeError(f"module 'leadlag' has no attribute {name!r}")
    from importlib import import_module
    return getattr(import_module(f"leadlag.{_LAZY[name]}"), name)


def __dir__(): return sorted([*globals(), *_LAZY])
