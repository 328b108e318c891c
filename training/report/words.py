"""What the things in a report are called and mean, once for the page and for the card."""

from bundle.operations import Operation
from training.evaluate import ALPHA, IMPORTANCE_DRAWS

__all__ = ["ANSWERS", "MEANINGS", "SCORES"]

ANSWERS = {
    Operation.ENCODE: "the code of a row (the mean code where codes are distributions)",
    Operation.DECODE: "the row that a code stands for",
    Operation.RECONSTRUCT: "a row after encoding and decoding",
    Operation.DENOISE: "the clean row that a corrupted one came from",
    Operation.ANOMALY_SCORE: "how unlike the training data a row is, with its p-value",
    Operation.SAMPLE: "new rows, decoded from codes drawn from the prior N(0, I)",
    Operation.INTERPOLATE: "rows on the way from one row or code to another",
}

SCORES = {
    "reconstruction_error": "the mean squared error of the reconstruction; `anomaly_map` says how much each element "
    "adds",
    "weighted_error": "the mean squared error of the reconstruction in proportion to the row's own square, weighed "
    "by how far the row's code and size lie from those of the nearest cluster of training rows, or the error alone "
    "where that is more unusual; `anomaly_map` says how much each element adds",
    "negative_elbo": "the negative evidence lower bound with the code at its mean, in nats",
    "mahalanobis": "the squared Mahalanobis distance of the code from those of the training rows",
    "mahalanobis_residual": "the squared Mahalanobis distance of the code from those of the training rows, plus the "
    "squared residual in units of what was left of training rows",
    "rapp_sap": "the squared difference between a row and its reconstruction, added up along the encoder's layers "
    "(RaPP, simple aggregation)",
    "rapp_nap": "the difference between a row and its reconstruction along the encoder's layers, squared in units of "
    "what is usual along each of its directions (RaPP, normalised aggregation)",
}

MEANINGS = {
    "reconstruct_mse": "mean squared error of the reconstruction",
    "principal_components_mse": "for comparison: the same, by as many principal components as a code has values",
    "denoise_mse": "mean squared error of the denoised row against the clean one",
    "corrupted_mse": "for comparison: that of the corrupted row itself",
    "negative_elbo": "negative evidence lower bound, one draw for each row, in nats",
    "divergence": "the part of it that is the codes' divergence from the prior, in nats",
    "importance_weighted_bound": f"the same with {IMPORTANCE_DRAWS} weighted draws for each row, which lies closer to "
    "the negative log likelihood",
    "cross_entropy": "cross-entropy of the grey values with the reconstruction, in nats per row",
    "cross_entropy_floor": "for comparison: the least that it can be, the grey values' own entropy",
    "auroc": "area under the ROC curve: the probability that an anomaly among the test rows scores above a normal row",
    "average_precision": "average precision of the anomalies among the test rows",
    f"test_rate_at_{ALPHA}": f"the fraction of normal test rows whose p-value is at most {ALPHA}",
    f"noise_rate_at_{ALPHA}": f"the fraction of rows of uniform noise whose p-value is at most {ALPHA}",
}
