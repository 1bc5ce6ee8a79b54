"""A notebook-first laboratory for lead-lag trading under changing market regimes."""
__version__ = "0.1.0"
