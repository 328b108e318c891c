"""What is minimised: one file per objective, with the equation and its source, and nothing but the loss."""

from training.objectives.contractive import Contractive
from training.objectives.denoising import Denoising
from training.objectives.k_sparse import KSparse
from training.objectives.linear import Linear
from training.objectives.sparse_penalty import SparsePenalty
from training.objectives.vanilla import Vanilla
from training.objectives.variational import Variational

__all__ = ["Contractive", "Denoising", "KSparse", "Linear", "Objective", "SparsePenalty", "Vanilla", "Variational"]

Objective = Linear | Vanilla | Denoising | KSparse | SparsePenalty | Contractive | Variational
