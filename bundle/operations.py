"""The operations that a bundle can declare, and the methods that its artefacts export for them."""

from enum import StrEnum

__all__ = ["Family", "Method", "Operation", "methods_of"]


class Family(StrEnum):
    """The kinds of autoencoder that can be published."""

    LINEAR = "linear"
    VANILLA = "vanilla"
    DENOISING = "denoising"
    SPARSE = "sparse"
    CONTRACTIVE = "contractive"
    VARIATIONAL = "variational"


class Operation(StrEnum):
    """What a client can ask of a bundle. One verb everywhere: path, manifest, client method, metric label."""

    ENCODE = "encode"
    DECODE = "decode"
    RECONSTRUCT = "reconstruct"
    DENOISE = "denoise"
    ANOMALY_SCORE = "anomaly_score"
    SAMPLE = "sample"
    INTERPOLATE = "interpolate"

    @property
    def path(self) -> str:
        """The operation as the last segment of a URL."""
        return self.value.replace("_", "-")


class Method(StrEnum):
    """A deterministic, row-wise function that an artefact exports: float32 in, float32 out."""

    ENCODE = "encode"
    ENCODE_DISTRIBUTION = "encode_distribution"
    DECODE = "decode"
    RECONSTRUCT = "reconstruct"
    DENOISE = "denoise"
    ANOMALY_SCORE = "anomaly_score"
    ANOMALY_MAP = "anomaly_map"

    @property
    def takes_latents(self) -> bool:
        """True when the rows that go in are codes (n, k) rather than inputs (n, d)."""
        return self is Method.DECODE

    def output_shapes(self, rows: int, *, size: int, latent_size: int) -> tuple[tuple[int, ...], ...]:
        """The shapes of the arrays that come out when `rows` rows go in; `size` is d, `latent_size` is k."""
        match self:
            case Method.ENCODE:
                return ((rows, latent_size),)
            case Method.ENCODE_DISTRIBUTION:
                return ((rows, latent_size), (rows, latent_size))
            case Method.ANOMALY_SCORE:
                return ((rows,),)
            case _:
                return ((rows, size),)


def methods_of(operations: frozenset[Operation], *, variational: bool, additive_score: bool) -> frozenset[Method]:
    """The methods that an artefact must export for these operations.

    Sampling and interpolation are `decode` of codes that the service makes, so they have no method of their own.
    """
    methods = {method for method in Method if method.value in {operation.value for operation in operations}}
    if operations & {Operation.SAMPLE, Operation.INTERPOLATE}:
        methods.add(Method.DECODE)
    if Operation.INTERPOLATE in operations:
        methods.add(Method.ENCODE)
    if variational:
        methods.add(Method.ENCODE_DISTRIBUTION)
    if additive_score:
        methods.add(Method.ANOMALY_MAP)
    return frozenset(methods)
