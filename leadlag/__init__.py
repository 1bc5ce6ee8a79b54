"""A notebook-first laboratory for lead-lag trading under changing market regimes."""
from gymnasium.envs.registration import register, registry

__version__ = "0.1.0"

if "leadlag/LeadLag-v0" not in registry:
    register("leadlag/LeadLag-v0", entry_point="leadlag.env:LeadLagEnv", vector_entry_point="leadlag.env:LeadLagVectorEnv")

_LAZY = {"LeadLagEnv": "env", "LeadLagVectorEnv": "env", "EnvSpec": "vector", "Regime": "markets.regimes",
         "simulate": "markets.synthetic", "read_prices": "markets.historical", "verify": "governance.provenance"}
__all__ = sorted(_LAZY)


def __getattr__(name):
    "Public names, imported when they are first used."
    if name not in _LAZY: raise AttributeError(f"module 'leadlag' has no attribute {name!r}")
    from importlib import import_module
    return getattr(import_module(f"leadlag.{_LAZY[name]}"), name)


def __dir__(): return sorted([*globals(), *_LAZY])
