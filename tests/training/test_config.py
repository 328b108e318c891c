"""Configurations: complete, frozen, and refused with every fault at once."""

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from training.config import Config, Fitting
from training.corruption import Corruption
from training.data import SOURCES, SplitSizes
from training.errors import ConfigInvalid
from training.networks import Architecture
from training.objectives import Denoising, Objective, SparsePenalty, Vanilla, Variational
from training.recipes import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_sound_and_called_after_its_bundle(name: str) -> None:
    config = RECIPES[name]()
    config.check()
    assert config.recipe == name
    assert config == RECIPES[name]()


def test_every_recipe_says_what_it_is() -> None:
    assert all((function.__doc__ or "").strip() for function in RECIPES.values())


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        RECIPES["digits-vae"]().seed = 1  # type: ignore[misc]  # that is the point


def test_all_faults_are_told_at_once(config: Config) -> None:
    wrong = replace(
        config,
        recipe="No Name",
        source="imagenet",
        splits=SplitSizes(validation=0, calibration=10),
        architecture=Architecture(hidden=(0,), latent=3, activation="step", output="cosine"),  # type: ignore[arg-type]  # wrong on purpose
        objective=Denoising(corruption=Corruption(kind="gaussian", strength=-1)),
        fitting=Fitting(epochs=0, batch_size=0, learning_rate=0, patience=0, threads=0, schedule="steps"),  # type: ignore[arg-type]  # wrong on purpose
        score="negative_elbo",
        seed=-1,
    )
    with pytest.raises(ConfigInvalid) as caught:
        wrong.check()
    for fault in (
        "'No Name'",
        "imagenet",
        "at least one row",
        "width",
        "step",
        "cosine",
        "strength above 0",
        "epochs",
        "batch_size",
        "learning_rate",
        "patience",
        "threads",
        "steps",
        "negative ELBO",
        "seed",
    ):
        assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"objective": Variational()}, "Bernoulli"),
        ({"architecture": Architecture(hidden=(), latent=1)}, "sigmoid"),
        ({"objective": Denoising(corruption=Corruption(kind="salt_and_pepper", strength=0.1))}, "salt and pepper"),
        ({"architecture": Architecture(kind="conv", hidden=(4,), latent=1, output="linear")}, "pictures"),
        ({"objective": Vanilla(error="cross_entropy")}, "cross-entropy"),
        ({"exponent": 0.5}, "an exponent"),
    ],
)
def test_what_needs_a_range_is_refused_without_one(
    config: Config, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], fault: str
) -> None:
    class Unbounded:
        range = None

    monkeypatch.setitem(SOURCES, "unbounded", Unbounded())
    linear = Architecture(hidden=(), latent=1, output="linear")
    gaussian = Variational(likelihood="gaussian")
    sound = replace(config, source="unbounded", architecture=linear, objective=gaussian)
    sound.check()
    with pytest.raises(ConfigInvalid, match=fault):
        replace(sound, **changes).check()  # type: ignore[arg-type]  # a value of each field's own type


def test_a_network_that_does_not_go_with_its_objective_is_refused_with_every_fault(config: Config) -> None:
    wrong = replace(
        config,
        architecture=Architecture(
            kind="conv",
            hidden=(),
            latent=3,
            top_k=4,
            code_activation="relu",
            tied=True,
            unit_columns=True,
            layer_norm=True,
            learnt_spread=True,
        ),
        objective=SparsePenalty(penalty="kl", weights=(1.0,), target=2.0, error="hinge"),  # type: ignore[arg-type]  # wrong on purpose
    )
    with pytest.raises(ConfigInvalid) as caught:
        wrong.check()
    for fault in (
        "between 1 and all 3 values",
        "cannot have unit columns too",
        "takes back what unit columns hold",
        "at least one hidden layer",
        "mlp networks only",
        "between 0 and 1",
        "hinge",
        "sigmoid units",
        "variational network has a spread",
    ):
        assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("objective", "fault"), [(Vanilla(error="cross_entropy"), "cross-entropy"), (Variational(), "Bernoulli")]
)
def test_probabilities_need_a_sigmoid_output(config: Config, objective: Objective, fault: str) -> None:
    linear = replace(config.architecture, output="linear")
    replace(config, objective=objective).check()
    with pytest.raises(ConfigInvalid, match=fault):
        replace(config, objective=objective, architecture=linear).check()


def test_the_configuration_is_plain_json(config: Config) -> None:
    values = config.as_json()
    assert json.loads(json.dumps(values)) == values
    assert values["family"] == "variational"
    assert values["fitting"] == {
        "epochs": 3,
        "batch_size": 100,
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "patience": 10,
        "trim": 0.0,
        "threads": 1,
        "hardware": {"device": "cpu", "precision": "32", "devices": 1, "nodes": 1},
    }


def test_the_digest_tells_configurations_families_and_data_apart(config: Config) -> None:
    digests = {
        config.digest("a"),
        config.digest("b"),
        replace(config, seed=1).digest("a"),
        replace(config, fitting=replace(config.fitting, epochs=4)).digest("a"),
    }
    assert len(digests) == 4
    assert config.digest("a") == replace(config).digest("a")
