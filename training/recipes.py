"""The committed runs: each is a function that returns one complete configuration."""

from collections.abc import Callable

from training.config import Config, Fitting
from training.corruption import Corruption, Mixture
from training.data import SplitSizes
from training.networks import Architecture
from training.objectives import Contractive, Denoising, KSparse, Linear, SparsePenalty, Vanilla, Variational

__all__ = ["RECIPES"]

# 60,000 rows outside the test file: 54,000 to train on.
_MNIST_LAYOUT = SplitSizes(validation=2_000, calibration=4_000)


def digits_vae() -> Config:
    """A small variational autoencoder of handwritten digits: offline, in seconds."""
    return Config(
        recipe="digits-vae",
        description="Variational autoencoder of handwritten digits of 8 x 8 pixels",
        source="digits",
        splits=SplitSizes(validation=97, calibration=400, test=300),
        architecture=Architecture(hidden=(128,), latent=10),
        objective=Variational(likelihood="gaussian", spread=0.2),
        fitting=Fitting(epochs=150, batch_size=50, learning_rate=2e-3, patience=30, threads=1),
    )


def fashion_vanilla() -> Config:
    """A deterministic autoencoder of clothes: 64 values for an image."""
    return Config(
        recipe="fashion-vanilla",
        description="Autoencoder of pictures of clothes (28 x 28 pixels, Fashion-MNIST) with codes of 64 values",
        source="fashion-mnist",
        splits=_MNIST_LAYOUT,
        architecture=Architecture(hidden=(400,), latent=64, activation="silu", layer_norm=True),
        objective=Vanilla(),
        fitting=Fitting(epochs=60, learning_rate=2e-3),
        score="weighted_error",
    )


def fashion_denoising() -> Config:
    """A denoising autoencoder of clothes, against Gaussian noise of standard deviation 0.2, clipped."""
    return Config(
        recipe="fashion-denoising",
        description="Denoising autoencoder of pictures of clothes (28 x 28 pixels, Fashion-MNIST)",
        source="fashion-mnist",
        splits=_MNIST_LAYOUT,
        architecture=Architecture(hidden=(512,), latent=96, activation="silu", layer_norm=True),
        objective=Denoising(corruption=Corruption(kind="gaussian", strength=0.2)),
        fitting=Fitting(epochs=60, learning_rate=2e-3),
        score="weighted_error",
    )


def fashion_denoising_wide() -> Config:
    """The same as a convolution with codes of 392 values: the best against this noise, and the worst at anomalies."""
    return Config(
        recipe="fashion-denoising-wide",
        description="Wide denoising autoencoder of pictures of clothes (28 x 28 pixels, Fashion-MNIST)",
        source="fashion-mnist",
        splits=_MNIST_LAYOUT,
        architecture=Architecture(kind="conv", hidden=(16,), latent=392, activation="silu", layer_norm=True),
        objective=Denoising(corruption=Corruption(kind="gaussian", strength=0.2)),
        fitting=Fitting(epochs=16, batch_size=64, learning_rate=2e-3),
        score="weighted_error",
    )


def fashion_linear() -> Config:
    """The linear autoencoder of clothes: principal components, found by descent."""
    return Config(
        recipe="fashion-linear",
        description="Linear autoencoder of pictures of clothes (28 x 28 pixels, Fashion-MNIST) with codes of 64 values",
        source="fashion-mnist",
        splits=_MNIST_LAYOUT,
        architecture=Architecture(hidden=(), latent=64, output="linear"),
        objective=Linear(),
        fitting=Fitting(epochs=40),
        score="weighted_error",
    )


def fashion_k_sparse() -> Config:
    """A k-sparse autoencoder of clothes: 32 of 400 values describe an image."""
    return Config(
        recipe="fashion-k-sparse",
        description="k-sparse autoencoder of pictures of clothes (28 x 28 pixels, Fashion-MNIST), 32 of 400 values",
        source="fashion-mnist",
        splits=_MNIST_LAYOUT,
        architecture=Architecture(hidden=(), latent=400, code_activation="relu", top_k=32, tied=True),
        objective=KSparse(),
        fitting=Fitting(epochs=30, learning_rate=2e-3),
        score="weighted_error",
    )


def fashion_kl_sparse() -> Config:
    """A sparse autoencoder of clothes whose 128 units are active 5 % of the time, by a KL penalty."""
    return Config(
        recipe="fashion-kl-sparse",
        description="Sparse autoencoder of pictures of clothes (28 x 28 pixels, Fashion-MNIST), KL penalty, 128 values",
        source="fashion-mnist",
        splits=_MNIST_LAYOUT,
        architecture=Architecture(hidden=(), latent=128, code_activation="sigmoid"),
        objective=SparsePenalty(penalty="kl", target=0.05, weights=(0.6,)),
        # Sigmoids that saturate at first come back slowly.
        fitting=Fitting(epochs=60, learning_rate=2e-3),
        score="weighted_error",
    )


def fashion_contractive() -> Config:
    """A contractive autoencoder of clothes: 256 values that hardly change with the image."""
    return Config(
        recipe="fashion-contractive",
        description="Contractive autoencoder of pictures of clothes (28 x 28 pixels, Fashion-MNIST), 256 values",
        source="fashion-mnist",
        splits=_MNIST_LAYOUT,
        architecture=Architecture(hidden=(), latent=256, code_activation="sigmoid", tied=True),
        objective=Contractive(weight=1e-5),
        fitting=Fitting(epochs=40, learning_rate=2e-3),
        score="weighted_error",
    )


def fashion_conv() -> Config:
    """A convolutional denoising autoencoder of clothes, against a mix of noises."""
    return Config(
        recipe="fashion-conv",
        description="Convolutional denoising autoencoder of pictures of clothes (28 x 28 pixels, Fashion-MNIST)",
        source="fashion-mnist",
        splits=_MNIST_LAYOUT,
        architecture=Architecture(kind="conv", hidden=(16, 32), latent=64, activation="silu", layer_norm=True),
        objective=Denoising(
            corruption=Mixture(
                corruptions=(
                    Corruption(kind="gaussian", strength=0.2),
                    Corruption(kind="masking", strength=0.25),
                    Corruption(kind="salt_and_pepper", strength=0.1),
                )
            )
        ),
        fitting=Fitting(epochs=8, learning_rate=2e-3),
        score="weighted_error",
    )


def fashion_vae() -> Config:
    """The textbook's variational autoencoder, 784-400-20, of clothes."""
    return Config(
        recipe="fashion-vae",
        description="Variational autoencoder of pictures of clothes (28 x 28 pixels, Fashion-MNIST), 784-400-20",
        source="fashion-mnist",
        splits=_MNIST_LAYOUT,
        architecture=Architecture(hidden=(400,), latent=20),
        objective=Variational(),
        # Over so many epochs the 8e-3 that are best for ten diverge.
        fitting=Fitting(epochs=80, learning_rate=2e-3),
        score="weighted_error",
    )


def mnist_vanilla() -> Config:
    """A deterministic autoencoder of handwritten digits of 28 x 28 pixels."""
    return Config(
        recipe="mnist-vanilla",
        description="Autoencoder of handwritten digits (28 x 28 pixels, MNIST) with codes of 32 values",
        source="mnist",
        splits=_MNIST_LAYOUT,
        architecture=Architecture(hidden=(400,), latent=32, activation="silu", layer_norm=True),
        objective=Vanilla(),
        fitting=Fitting(epochs=60, learning_rate=2e-3),
        score="weighted_error",
    )


def mnist_vae() -> Config:
    """The textbook's variational autoencoder, 784-400-20, of handwritten digits."""
    return Config(
        recipe="mnist-vae",
        description="Variational autoencoder of handwritten digits (28 x 28 pixels, MNIST), 784-400-20",
        source="mnist",
        splits=_MNIST_LAYOUT,
        architecture=Architecture(hidden=(400,), latent=20),
        objective=Variational(),
        # Over so many epochs the 8e-3 that are best for ten diverge.
        fitting=Fitting(epochs=80, learning_rate=2e-3),
        score="weighted_error",
    )


RECIPES: dict[str, Callable[[], Config]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        digits_vae,
        fashion_linear,
        fashion_vanilla,
        fashion_denoising,
        fashion_denoising_wide,
        fashion_conv,
        fashion_k_sparse,
        fashion_kl_sparse,
        fashion_contractive,
        fashion_vae,
        mnist_vanilla,
        mnist_vae,
    )
}
