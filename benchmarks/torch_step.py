"""The training step in PyTorch, written from the paper as a PyTorch user would: the peer of `train_step`."""

import math

import torch
from torch import nn
from torch.nn import functional

from case_jax.config import CaseConfig

__all__ = ["TorchCase"]


class _Stream(nn.Module):
    def __init__(self, width: int, num_classes: int, config: CaseConfig):
        super().__init__()
        hidden = config.hidden_dim
        self.temperature = config.cluster_temperature
        self.cas = nn.Sequential(nn.Conv1d(width, hidden, 1), nn.ReLU(), nn.Conv1d(hidden, num_classes, 1))
        self.encoder = nn.Sequential(nn.Conv1d(width, hidden, 1), nn.ReLU())
        self.attention = nn.Conv1d(hidden, 1, 1)
        self.prototypes = nn.Linear(hidden, config.num_clusters, bias=False)

    def forward(self, features):
        """(B, D, T) features to CAS (B, T, G), attention (B, T), embedding (B, T, H), logits (B, T, K)."""
        cas = self.cas(features).transpose(1, 2)
        embedding = self.encoder(features)
        attention = torch.sigmoid(self.attention(embedding))[:, 0]
        embedding = embedding.transpose(1, 2)
        logits = self.temperature * self.prototypes(functional.normalize(embedding, dim=2))
        return cas, attention, embedding, logits


class TorchCase:
    """The network, its optimiser and the carried Q^C; `step` trains on a batch.

    Args:
        widths: channels of each stream.
        num_classes: G.
        config: hyper-parameters. All of CASE's components and the prior with true ranks are used.
        compiled: whether forward pass, labels and losses go through torch.compile.
    """

    def __init__(
        self, widths: tuple[int, ...], num_classes: int, config: CaseConfig, *, compiled: bool = False
    ):
        self.config, self.widths = config, widths
        self.streams = nn.ModuleList([_Stream(width, num_classes, config) for width in widths])
        self.optimizer = torch.optim.Adam(
            self.streams.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.cluster_labels = torch.full((config.num_clusters, 2), 1 / config.num_clusters)
        self.loss = torch.compile(self._loss) if compiled else self._loss

    def step(self, features: torch.Tensor, labels: torch.Tensor) -> float:
        """One step on (B, sum of D, T) features and (B, G) labels; returns the loss."""
        with torch.no_grad():
            for stream in self.streams:
                weight = stream.prototypes.weight
                weight.copy_(functional.normalize(weight, dim=1))
        loss, self.cluster_labels = self.loss(features, labels, self.cluster_labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def forward(self, features: torch.Tensor) -> list:
        """The outputs of each stream's network; see `_Stream.forward`."""
        return [net(part) for net, part in zip(self.streams, features.split(self.widths, dim=1))]

    def score(self, features: torch.Tensor) -> tuple:
        """Clustering-assisted testing: (B, sum of D, T) features to (B, T, G) and (B, G) scores."""
        outputs = self.forward(features)
        fused = _mean(cas.softmax(-1) for cas, _, _, _ in outputs)
        foreground = [out[1] for out in outputs]
        foreground += [out[3].softmax(-1) @ self.cluster_labels[:, 0] for out in outputs]
        fused = (fused + sum(foreground)[..., None]) / (1 + len(foreground))
        chosen = fused.topk(self.config.top_k, dim=1).indices
        video = _mean(cas.gather(1, chosen).mean(1).softmax(-1) for cas, _, _, _ in outputs)
        return fused.numpy(), video.numpy()

    def _loss(self, features, labels, cluster_labels):
        config = self.config
        outputs = self.forward(features)
        with torch.no_grad():
            calibrated = _mean(cas.softmax(-1) for cas, _, _, _ in outputs)
            calibrated = (calibrated + sum(out[1] for out in outputs)[..., None]) / (1 + len(outputs))
            chosen = calibrated.topk(config.top_k, dim=1).indices
            selected = torch.zeros_like(calibrated, dtype=torch.bool).scatter(1, chosen, True)
            q_a = (selected & (labels > 0)[:, None, :]).any(-1).float()
            attention = _mean(out[1] for out in outputs).flatten()
            logits = _mean(out[3] for out in outputs).flatten(0, 1)
            prior = _rank_prior(attention, cluster_labels[:, 0], config.sigma)
            clusters = config.num_clusters
            q_s = _sinkhorn(
                torch.exp(logits / config.epsilon) * prior,
                logits.new_full((clusters,), 1 / clusters),
                config.sinkhorn_iters,
            )
        sides = torch.stack([q_a.flatten(), 1 - q_a.flatten()], dim=1)
        target = labels / labels.sum(1, keepdim=True)
        loss, class_logits = 0.0, []
        for cas, attention, embedding, logits in outputs:
            video = cas.gather(1, chosen).mean(1)
            loss = loss + _cross_entropy(target, video) / len(outputs)
            loss = loss + _attention_loss(q_a, attention, config.gamma)
            loss = loss + config.lambda_s * _cross_entropy(q_s, logits.flatten(0, 1))
            rows = embedding.flatten(0, 1)
            clusters = functional.normalize(q_s.T @ rows, dim=1)
            foreground_background = functional.normalize(sides.T @ rows, dim=1)
            class_logits.append(config.rho * clusters @ foreground_background.T)
        with torch.no_grad():
            share = q_a.mean()
            q_c = _sinkhorn(
                torch.exp(_mean(class_logits) / config.epsilon),
                torch.stack([share, 1 - share]),
                config.sinkhorn_iters,
            )
        return loss + config.lambda_c * sum(_cross_entropy(q_c, logits) for logits in class_logits), q_c


def _mean(values):
    values = list(values)
    return sum(values) / len(values)


def _cross_entropy(target, logits):
    return -(target * logits.log_softmax(-1)).sum(-1).mean()


def _attention_loss(q_a, attention, gamma):
    """Eq. (2)."""
    loss = 0.0
    for label, probability in ((q_a, attention), (1 - q_a, 1 - attention)):
        cost = (1 - (probability + 1e-7) ** gamma) / gamma
        loss = loss + ((label * cost).sum(-1) / (label.sum(-1) + 1e-7)).mean()
    return loss


def _rank_prior(attention, cluster_foreground, sigma):
    """Eq. (11), with true ranks from 0."""
    count = attention.numel()
    rank = torch.empty_like(attention)
    rank[attention.argsort()] = torch.arange(count, dtype=attention.dtype, device=attention.device)
    distance = rank[:, None] / count - cluster_foreground
    return torch.exp(-(distance**2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))


def _sinkhorn(kernel, beta, num_iters):
    """Algorithm 1."""
    plan = kernel.T / kernel.sum()
    for _ in range(num_iters):
        plan = plan / plan.sum(1, keepdim=True) * beta[:, None]
        plan = plan / plan.sum(0, keepdim=True)
    return plan.T
