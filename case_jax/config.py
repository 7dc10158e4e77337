"""The hyper-parameters of CASE, with the published THUMOS14 values as defaults."""

import dataclasses
import math
from typing import Literal

from case_jax.errors import InputError

__all__ = ["CaseConfig"]


@dataclasses.dataclass(frozen=True)
class CaseConfig:
    """Every setting of the method, its training and its localisation.

    Frozen and hashable, so it can be a static argument of jit. The defaults reproduce the published
    THUMOS14 run, except where the published code departs from the paper (``prior_rank``).

    Raises:
        InputError: on construction, if a value is out of its range or two values contradict each other.
    """

    # Sampling (T snippets from each video, B videos in a batch)
    num_snippets: int = 750  # T
    batch_size: int = 16  # B
    sampling: Literal["stratified", "uniform"] = "stratified"  # how T are drawn in training

    # Network, per stream
    hidden_dim: int = 512  # width of both embedding encoders (D of Sec. 4.1)
    num_clusters: int = 16  # K
    cluster_temperature: float = 10.0  # L^S = cluster_temperature * cosine(E, prototype)

    # Components: the rows of Table 3
    scc: bool = True  # snippet clustering component, Eq. (3)
    ccc: bool = True  # cluster classification component, Eq. (6); needs scc
    clustering_assisted_testing: bool = True  # P^M in place of P^A at test time; needs ccc

    # Baseline losses
    top_k_divisor: int = 8  # k = max(1, T // top_k_divisor)
    gamma: float = 0.7  # gamma of Eq. (2), noise tolerance of the attention loss

    # Self-labelling by optimal transport
    epsilon: float = 0.5  # divides the logits, as in Alg. 1; the inverse of Eq. (10)'s
    sinkhorn_iters: int = 3  # n_iter of Alg. 1
    sigma: float = 10.0  # sigma of Eq. (11)
    scc_prior: bool = True  # Eq. (12); False: Eq. (10), no prior (Table 5, row 2)
    scc_transport: bool = True  # Q^S by transport, Eq. (8); False: without that constraint (Table 4)
    scc_labels: Literal["soft", "hard"] = "soft"  # "hard": one-hot of Q^S (Table 4)
    prior_rank: Literal["true", "permutation"] = "true"  # "permutation": the published code's
    ccc_marginal: Literal["foreground", "uniform"] = "foreground"  # Eq. (13); Eq. (9) (Table 5, row 3)
    rho: float = 10.0  # rho of Eq. (5)

    # Beyond the paper, whose method the defaults are; docs/plus.md tells what each is for
    settling: float = 0.0  # share of the steps, the first ones, in which L_V sees whole videos
    ccc_foreground: Literal["labels", "attention"] = "labels"  # of Eqs. (4) and (13): Q^A; or P^A itself
    # L_A's labels: Q^A; also where P^A and P^T both exceed 1/2; also where P^M does
    attention_labels: Literal["top_k", "agreed", "mixed"] = "top_k"
    agreement_from: float = 0.2  # share of the steps after which "agreed" and "mixed" begin

    # Joint training, Eq. (14)
    lambda_s: float = 1.0  # lambda_S
    lambda_c: float = 0.3  # lambda_C
    learning_rate: float = 1e-4
    weight_decay: float = 5e-4  # added to the gradient (L2), not decoupled
    num_steps: int = 3600  # 300 epochs of 12 batches

    # Numerics; labels and Sinkhorn are float32 whatever is chosen here
    matmul_precision: Literal["float32", "tf32", "bfloat16"] = "float32"  # of the layers' products
    feature_dtype: Literal["float32", "bfloat16"] = "float32"  # in which features are kept and read

    # Proposals
    class_threshold: float = 0.25  # classes whose video score reaches it are localised
    upsampling: int = 24  # positions per sampled snippet
    proposal_thresholds: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    flank: float = 0.15  # outer flanks' length, in lengths of the proposal
    video_score_weight: float = 0.2  # weight of the class's video score in a proposal's score
    # "kept": every localised class counts as 1, which is what the published detections contain;
    # "probability": its video score, so that surer classes rank higher across videos
    video_score: Literal["kept", "probability"] = "kept"
    nms: Literal["published", "standard"] = "published"
    nms_threshold: float = 0.4  # tIoU from which soft-NMS lowers a score
    nms_alpha: float = 0.35  # score * exp(-tIoU^2 / nms_alpha)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            finite = all(math.isfinite(v) for v in numbers if isinstance(v, float))
            self._require(field.name, finite, "finite")
        for name in (
            "num_snippets batch_size hidden_dim num_clusters cluster_temperature top_k_divisor epsilon "
            "sinkhorn_iters sigma rho learning_rate num_steps upsampling nms_alpha"
        ).split():
            self._require(name, getattr(self, name) > 0, "greater than 0")
        for name in "lambda_s lambda_c weight_decay flank".split():
            self._require(name, getattr(self, name) >= 0, "0 or more")
        for name in "class_threshold nms_threshold".split():
            self._require(name, 0 <= getattr(self, name) <= 1, "between 0 and 1")
        for name in "settling agreement_from".split():
            self._require(name, 0 <= getattr(self, name) < 1, "from 0 up to but not including 1")
        self._require("gamma", 0 < self.gamma < 1, "between 0 and 1, both excluded")
        self._require("proposal_thresholds", len(self.proposal_thresholds) > 0, "one value or more")
        for name, choices in _CHOICES.items():
            self._require(name, getattr(self, name) in choices, "one of " + ", ".join(choices))
        if self.ccc and not self.scc:
            raise InputError("--ccc: needs the snippet clusters of --scc; expected --scc, or --noccc")
        if self.clustering_assisted_testing and not self.ccc:
            raise InputError(
                "--clustering_assisted_testing: needs the cluster labels of --ccc; expected --ccc, or "
                "--noclustering_assisted_testing"
            )

        if self.attention_labels != "top_k" and not self.ccc:
            raise InputError(
                f"--attention_labels: {self.attention_labels} needs the cluster labels of --ccc; expected "
                "--ccc, or --attention_labels=top_k"
            )

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise InputError(f"--{name}: is {getattr(self, name)!r}; expected {expected}")

    @property
    def top_k(self) -> int:
        """The k of top-k pooling over time: snippets of a video that speak for a class."""
        return max(1, self.num_snippets // self.top_k_divisor)

    @property
    def settling_steps(self) -> int:
        """Steps at the start of training in which L_V sees whole videos."""
        return round(self.settling * self.num_steps)

    @property
    def agreement_step(self) -> int:
        """Steps after which attention and clusters add to the labels of L_A, if they do at all."""
        return round(self.agreement_from * self.num_steps)

    @property
    def depends_on_length(self) -> bool:
        """Whether the first steps of a longer training would differ from this one's."""
        return self.settling > 0 or self.attention_labels != "top_k"


_CHOICES = {
    "sampling": ("stratified", "uniform"),
    "prior_rank": ("true", "permutation"),
    "scc_labels": ("soft", "hard"),
    "ccc_foreground": ("labels", "attention"),
    "attention_labels": ("top_k", "agreed", "mixed"),
    "ccc_marginal": ("foreground", "uniform"),
    "matmul_precision": ("float32", "tf32", "bfloat16"),
    "feature_dtype": ("float32", "bfloat16"),
    "nms": ("published", "standard"),
    "video_score": ("kept", "probability"),
}
