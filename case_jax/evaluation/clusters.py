"""What snippet clusters hold, measured against the annotations."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["ClusterSummary", "summarise_clusters"]


class ClusterSummary(NamedTuple):
    """K clusters over N snippets.

    How large a cluster is can be measured in two ways, which differ where assignments are unsure:

    - its **soft share** is the mean of P^S over the snippets, the share of snippets it expects to hold;
    - its **hard share** is the share of snippets whose most probable cluster it is (its members).
    """

    soft_share: np.ndarray  # (K,) float64, sums to 1
    soft_in_action: np.ndarray  # (K,) float64, part of the soft share that lies in actions; NaN if that is 0
    members: np.ndarray  # (K,) int64, snippets whose most probable cluster it is
    members_in_action: np.ndarray  # (K,) int64, those of them in which an annotated action is on

    @property
    def hard_share(self) -> np.ndarray:
        """(K,) float64, sums to 1."""
        return self.members / self.members.sum()

    @property
    def hard_in_action(self) -> np.ndarray:
        """(K,) float64, share of a cluster's members that lie in actions; NaN if it has no members."""
        some = self.members > 0
        return np.where(some, self.members_in_action / np.where(some, self.members, 1), np.nan)

    @property
    def purity(self) -> float:
        """Share of all snippets that are of their cluster's more frequent kind, action or background."""
        background = self.members - self.members_in_action
        return float(np.maximum(self.members_in_action, background).sum() / self.members.sum())

    @property
    def num_foreground(self) -> int:
        """Clusters most of whose members lie in actions."""
        return int((2 * self.members_in_action > self.members).sum())


def summarise_clusters(assignment: npt.ArrayLike, in_action: npt.ArrayLike) -> ClusterSummary:
    """Sizes of clusters, and how much of each lies in annotated actions.

    Args:
        assignment: (..., K) float, P^S of snippets; rows sum to 1.
        in_action: (...) bool, whether an annotated action is on in each snippet.

    Returns:
        `ClusterSummary` over all snippets.

    Example:
        >>> summary = summarise_clusters([[0.9, 0.1], [0.6, 0.4], [0.0, 1.0]], [True, False, False])
        >>> summary.soft_share.tolist(), summary.hard_share.round(2).tolist()
        ([0.5, 0.5], [0.67, 0.33])
        >>> summary.hard_in_action.tolist(), round(summary.purity, 2)
        ([0.5, 0.0], 0.67)
    """
    assignment, inside = np.asarray(assignment, np.float64), np.asarray(in_action, bool).reshape(-1)
    assignment = assignment.reshape(-1, assignment.shape[-1])
    mass = assignment.sum(axis=0)
    acting = np.einsum("nk,n->k", assignment, inside.astype(np.float64))
    likely, num_clusters = assignment.argmax(axis=1), assignment.shape[1]
    return ClusterSummary(
        soft_share=mass / mass.sum(),
        soft_in_action=np.divide(acting, mass, out=np.full_like(mass, np.nan), where=mass > 0),
        members=np.bincount(likely, minlength=num_clusters),
        members_in_action=np.bincount(likely[inside], minlength=num_clusters),
    )
