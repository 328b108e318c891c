"""What is minimised: one file per objective, with the equation and its source, and nothing but the loss."""

from training.objectives.denoising import Denoising
from training.objectives.vanilla import Vanilla
from training.objectives.variational import Variational

__all__ = ["Denoising", "Objective", "Vanilla", "Variational"]

Objective = Vanilla | Denoising | Variational
