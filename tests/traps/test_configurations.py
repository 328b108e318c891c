"""Building a network must not change the configuration that it is built from: the second one is like the first."""

import copy

import pytest
import torch

from bundle.manifest import ImageSpec
from training.networks import Autoencoder, build
from training.recipes import RECIPES

PICTURES = ImageSpec(height=28, width=28, channels=1)


@pytest.mark.parametrize("name", RECIPES)
def test_two_networks_of_one_configuration_are_alike_and_leave_it_as_it_was(name: str) -> None:
    config = RECIPES[name]()
    before = copy.deepcopy(config)

    def built() -> Autoencoder:
        return build(
            PICTURES.size,
            config.architecture,
            variational=config.variational,
            range=(0.0, 1.0),
            seed=config.seed,
            image=PICTURES,
        )

    first, second = built(), built()
    assert str(first) == str(second)
    for ours, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, other)
    assert config == before == RECIPES[name]()
