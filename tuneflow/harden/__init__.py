"""Hardening: attacks on trained modules, training and cleaning against them, and what tells that a module is weak.

An attack moves the inputs of a row by at most `eps`, a share of the width of the data's box, so that the module gives
it another class. The box is the range of the training rows in their raw units, or is said: `box=(0, 16)`.
"""

from tuneflow.harden.apgd import APGD
from tuneflow.harden.attack_all import attack
from tuneflow.harden.fast import Fast
from tuneflow.harden.fgsm import FGSM
from tuneflow.harden.layer_gains import spectral_norms
from tuneflow.harden.pgd import PGD
from tuneflow.harden.robust import Robust
from tuneflow.harden.row_margins import margins
from tuneflow.harden.sanitizers import MedianFilter, Rounding
from tuneflow.harden.square import Square
from tuneflow.harden.trades import TRADES

__all__ = [
    "APGD",
    "FGSM",
    "PGD",
    "TRADES",
    "Fast",
    "MedianFilter",
    "Robust",
    "Rounding",
    "Square",
    "attack",
    "margins",
    "spectral_norms",
]


def __dir__() -> list[str]:
    return __all__
