"""How far a vector is from the nearest of the clusters that others fall into."""

import torch
from torch import Tensor, nn

__all__ = ["MOST_CLUSTERS", "Clusters"]

MOST_CLUSTERS = 30
ROWS_FOR_EACH = 8  # times as many as a vector has values, in a cluster of average size
SHARED = 0.3  # of every covariance is that of all clusters: small clusters know theirs badly (Friedman 1989)
RIDGE = 1e-4  # of the mean variance; without it, values that never vary would have no covariance to invert


class Clusters(nn.Module):
    """q(v) = min_c (v - m_c)^T S_c^-1 (v - m_c): the squared Mahalanobis distance of a vector v (p values) from the
    nearest cluster of the vectors that this was fitted to.

    Clusters are those of k-means (Lloyd 1982), at most 30 and of eight rows for each value on average; S_c is 0.7 times
    the cluster's covariance plus 0.3 times that of all vectors around their clusters' means (regularised discriminant
    analysis: Friedman 1989, equation 16).
    """

    matrix: Tensor
    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.shape = (1, 1)
        self.register_buffer("matrix", torch.zeros(0, 0))
        self.register_buffer("offset", torch.zeros(0))

    def fit(self, vectors: Tensor) -> None:
        """Distances are from the clusters of `vectors` (m, p) from here on; computed in float64, kept in float32."""
        from sklearn.cluster import KMeans

        exact = vectors.double()
        count, width = exact.shape
        most = min(MOST_CLUSTERS, len(torch.unique(exact, dim=0)), count // (ROWS_FOR_EACH * width))
        found = KMeans(max(1, most), n_init=1, random_state=0)
        members = torch.from_numpy(found.fit_predict(exact.numpy())).long()
        groups = [exact[members == number] for number in range(found.n_clusters)]
        means = torch.stack([group.mean(dim=0) for group in groups])
        own = torch.stack([(group - group.mean(dim=0)).T.cov(correction=0).view(width, width) for group in groups])
        around = exact - means[members]
        shared = around.T @ around / count
        ridge = RIDGE * float(shared.trace()) / width + torch.finfo(torch.float32).tiny
        covariances = (1 - SHARED) * own + SHARED * shared + ridge * torch.eye(width, dtype=torch.float64)
        roots = torch.linalg.cholesky(torch.linalg.inv(covariances))
        self.shape = (len(groups), width)
        self.matrix = torch.cat([*roots], dim=1).float()
        self.offset = (means[:, None] @ roots).flatten().float()

    def forward(self, vectors: Tensor) -> Tensor:
        """q (n,) of `vectors` (n, p)."""
        squares = (vectors @ self.matrix - self.offset).square()
        return squares.view(-1, *self.shape).sum(dim=2).amin(dim=1)
