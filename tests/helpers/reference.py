"""CASE's equations in float64 numpy, written from the paper, to compare with."""

import numpy as np


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def top_k(column, k):
    """Positions of the k highest values; of equal ones the earlier."""
    return sorted(range(len(column)), key=lambda t: (-column[t], t))[:k]


def video_loss(cas, chosen, labels):
    """Eq. (1); chosen[b][g] lists snippets."""
    losses = []
    for b in range(len(cas)):
        scores = np.array([cas[b, chosen[b][g], g].mean() for g in range(cas.shape[2])])
        log_p = np.log(softmax(scores))
        losses.append(-(labels[b] / labels[b].sum() * log_p).sum())
    return np.mean(losses)


def attention_loss(attention, labels, gamma):
    """Eq. (2), with the published 1e-7."""
    losses = []
    for p, q in zip(attention, labels):
        positive = sum((1 - (x + 1e-7) ** gamma) / gamma for x, y in zip(p, q) if y == 1)
        negative = sum((1 - (1 - x + 1e-7) ** gamma) / gamma for x, y in zip(p, q) if y == 0)
        losses.append(positive / (q.sum() + 1e-7) + negative / ((1 - q).sum() + 1e-7))
    return np.mean(losses)


def cross_entropy(labels, logits):
    """Eqs. (3) and (6)."""
    return -(labels * np.log(softmax(logits))).sum(axis=-1).mean()


def algorithm_1(logits, prior=None, beta=None, epsilon=0.5, n_iter=3):
    """Algorithm 1, line by line."""
    logits = np.asarray(logits, np.float64)
    n, k = logits.shape
    prior = 1 / k if prior is None else np.asarray(prior, np.float64)
    beta = np.full(k, 1 / k) if beta is None else np.asarray(beta, np.float64)
    q = np.exp((logits - logits.max()) / epsilon)
    q = (q * prior).T
    q /= q.sum()
    for _ in range(n_iter):
        q /= q.sum(axis=1, keepdims=True)
        q = q * beta[:, None]
        q /= q.sum(axis=0, keepdims=True)
        q /= n
    return q.T * n


def ascending_rank(values):
    """The ranks of Eq. (11): N - 1 for the highest value; of equal values the earlier ranks higher."""
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    rank = np.empty(len(values))
    rank[order] = np.arange(len(values))[::-1]
    return rank
