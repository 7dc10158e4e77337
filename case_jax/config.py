"""The hyper-parameters of CASE, with the published THUMOS14 values as defaults.

Everything about a setting stands beside its field in `CaseConfig`: its default, what it is, which values
it may have and when it takes effect. Flags, checks and what may be tried on a trained run follow from there.
"""

# ruff: noqa: RUF009  `_setting` makes a field; every default is immutable.

import dataclasses
import math
import typing
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar

from case_jax.errors import InputError

__all__ = ["CaseConfig", "Precision", "PriorRank", "Role", "choices_of", "fields_of_role", "help_of"]

# When a setting takes effect:
# "training": only while training; evaluating a trained run ignores it.
# "model": it decides the shape of what is trained; evaluating with another value is an error.
# "test": only after training; any value may be tried on a trained run.
Role = Literal["training", "model", "test"]

# Choices that functions take as an argument, too.
PriorRank = Literal["true", "permutation"]
Precision = Literal["float32", "tf32", "bfloat16"]

_Value = TypeVar("_Value")


class _Range(NamedTuple):
    """The values that a setting may have."""

    holds: Callable[[Any], bool]
    words: str  # after "expected"


_ABOVE_0 = _Range(lambda value: value > 0, "greater than 0")
_FROM_0 = _Range(lambda value: value >= 0, "0 or more")
_0_TO_1 = _Range(lambda value: 0 <= value <= 1, "between 0 and 1")
_INSIDE_0_1 = _Range(lambda value: 0 < value < 1, "between 0 and 1, both excluded")
_0_TO_BELOW_1 = _Range(lambda value: 0 <= value < 1, "from 0 up to but not including 1")
_NOT_EMPTY = _Range(lambda values: len(values) > 0, "one value or more")


def _setting(
    default: _Value,
    help_text: str,
    allowed: _Range | None = None,
    *,
    role: Role = "training",
    needs_length: bool = False,
) -> _Value:
    """A field of `CaseConfig`.

    Args:
        default: the published value.
        help_text: what the setting is, with the paper's symbol; becomes the help of the flag.
        allowed: the numbers it may be, all of them finite; the choices of a text are those of its `Literal`.
        role: see `Role`.
        needs_length: whether a value other than the default makes the first steps of a training depend on how
            many steps there will be.
    """
    about = {"help": help_text, "allowed": allowed, "role": role, "needs_length": needs_length}
    return dataclasses.field(default=default, metadata=about)


@dataclasses.dataclass(frozen=True)
class CaseConfig:
    """Every setting of the method, its training and its localisation.

    Frozen and hashable, so it can be a static argument of jit. The defaults reproduce the published
    THUMOS14 run, except where the published code departs from the paper (``prior_rank``).

    Raises:
        InputError: on construction, if a value is out of its range or two values contradict each other.

    Example:
        >>> CaseConfig(gamma=2.0)
        Traceback (most recent call last):
        case_jax.errors.InputError: --gamma: is 2.0; expected between 0 and 1, both excluded
    """

    # Sampling
    num_snippets: int = _setting(750, "T, snippets sampled from each video", _ABOVE_0, role="model")
    batch_size: int = _setting(16, "B, videos in a batch", _ABOVE_0)
    sampling: Literal["stratified", "uniform"] = _setting(
        "stratified", "how training draws the T snippets of a video"
    )

    # Network, per stream
    hidden_dim: int = _setting(512, "D of Sec. 4.1, width of both embedding encoders", _ABOVE_0, role="model")
    num_clusters: int = _setting(16, "K, snippet clusters", _ABOVE_0, role="model")
    cluster_temperature: float = _setting(
        10.0, "factor on the cosine of embedding and prototype that gives the cluster logits L^S", _ABOVE_0
    )

    # Components: the rows of Table 3
    scc: bool = _setting(True, "snippet clustering component, Eq. (3)", role="model")
    ccc: bool = _setting(True, "cluster classification component, Eq. (6); needs --scc", role="model")
    clustering_assisted_testing: bool = _setting(
        True, "scores with P^M in place of P^A at test time (Sec. 4.3); needs --ccc", role="test"
    )

    # Baseline losses
    top_k_divisor: int = _setting(
        8, "top-k pooling takes k = max(1, T // top_k_divisor) snippets", _ABOVE_0, role="model"
    )
    gamma: float = _setting(0.7, "gamma of Eq. (2), noise tolerance of the attention loss", _INSIDE_0_1)

    # Self-labelling by optimal transport
    epsilon: float = _setting(
        0.5, "epsilon of Alg. 1, divides the logits; Eq. (10) writes its inverse", _ABOVE_0
    )
    sinkhorn_iters: int = _setting(3, "n_iter of Alg. 1", _ABOVE_0)
    sigma: float = _setting(10.0, "sigma of Eq. (11), width of the prior in normalised ranks", _ABOVE_0)
    scc_prior: bool = _setting(True, "Q^S with the prior of Eq. (12); without it Eq. (10) (Table 5, row 2)")
    scc_transport: bool = _setting(True, "Q^S by transport, Eq. (8); without it softmax of L^S (Table 4)")
    scc_labels: Literal["soft", "hard"] = _setting("soft", "Q^S itself, or its one-hot form (Table 4)")
    prior_rank: PriorRank = _setting(
        "true", "ranks of Eq. (11), or the sorting permutation that the published code takes for them"
    )
    ccc_marginal: Literal["foreground", "uniform"] = _setting(
        "foreground", "beta^C by Eq. (13), or equal shares by Eq. (9) (Table 5, row 3)"
    )
    rho: float = _setting(10.0, "rho of Eq. (5), factor on the cosine of cluster and foreground", _ABOVE_0)

    # Beyond the paper, whose method the defaults are; docs/plus.md tells what each is for
    settling: float = _setting(
        0.0,
        "share of the steps, the first ones, in which L_V sees whole videos",
        _0_TO_BELOW_1,
        needs_length=True,
    )
    ccc_foreground: Literal["labels", "attention"] = _setting(
        "labels", "foreground of Eqs. (4) and (13): Q^A, or P^A itself"
    )
    attention_labels: Literal["top_k", "agreed", "mixed"] = _setting(
        "top_k",
        "foreground of L_A: Q^A; also where P^A and P^T both exceed 1/2; also where P^M does",
        needs_length=True,
    )
    agreement_from: float = _setting(
        0.2, 'share of the steps after which "agreed" and "mixed" of --attention_labels begin', _0_TO_BELOW_1
    )

    # Videos without any action, beyond the paper, too; docs/action_free.md
    action_free: Literal["auto", "learn", "leave_out"] = _setting(
        "auto",
        "videos without any action: auto uses those that are there, and learns a background class if some of "
        "them train; learn has the background class in any case; leave_out does without such videos",
    )

    # Joint training, Eq. (14)
    lambda_s: float = _setting(1.0, "lambda_S of Eq. (14), weight of L_S", _FROM_0)
    lambda_c: float = _setting(0.3, "lambda_C of Eq. (14), weight of L_C", _FROM_0)
    learning_rate: float = _setting(1e-4, "learning rate of Adam", _ABOVE_0)
    weight_decay: float = _setting(5e-4, "L2 penalty added to the gradient, not decoupled", _FROM_0)
    num_steps: int = _setting(3600, "steps of training; 3600 are 300 epochs of 12 batches", _ABOVE_0)

    # Numerics; labels and Sinkhorn are float32 whatever is chosen here
    matmul_precision: Precision = _setting("float32", "precision of the layers' matrix products")
    feature_dtype: Literal["float32", "bfloat16"] = _setting(
        "float32", "type in which features are kept and read"
    )

    # Proposals
    class_threshold: float = _setting(
        0.25, "classes whose video score reaches it are localised", _0_TO_1, role="test"
    )
    always_localize: Literal["auto", "yes", "no"] = _setting(
        "auto",
        "yes localises one class or more in every video; auto finds nothing if a background class says so; "
        "no does, too, and also finds nothing where no class reaches --class_threshold",
        role="test",
    )
    action_threshold: float = _setting(
        0.35,
        "with a background class: probability of any action from which a video is localised",
        _0_TO_1,
        role="test",
    )
    upsampling: int = _setting(24, "positions per sampled snippet", _ABOVE_0, role="test")
    proposal_thresholds: tuple[float, ...] = _setting(
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        "thresholds on the activations, one set of proposals from each",
        _NOT_EMPTY,
        role="test",
    )
    flank: float = _setting(
        0.15, "length of a proposal's outer flanks, in lengths of the proposal", _FROM_0, role="test"
    )
    video_score_weight: float = _setting(
        0.2, "weight of the class's video score in a proposal's score", role="test"
    )
    refined_weight: float = _setting(
        0.15, "weight of a second stage, if the run has one, in a detection's score", _0_TO_1, role="test"
    )
    # The published detections contain "kept"; with "probability" surer classes rank higher across videos.
    video_score: Literal["kept", "probability"] = _setting(
        "kept", "a localised class counts as 1, or as its video score", role="test"
    )
    nms: Literal["published", "standard"] = _setting(
        "published", "form of soft-NMS: as the published code has it, or the usual one", role="test"
    )
    nms_threshold: float = _setting(0.4, "tIoU from which soft-NMS lowers a score", _0_TO_1, role="test")
    nms_alpha: float = _setting(
        0.35, "soft-NMS multiplies a score by exp(-tIoU^2 / nms_alpha)", _ABOVE_0, role="test"
    )

    def __post_init__(self):
        for field in dataclasses.fields(self):
            _check_value(field, getattr(self, field.name))
        self._check_components()

    def _check_components(self) -> None:
        """Rejects settings that need a component which is off."""
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

    @property
    def top_k(self) -> int:
        """The k of top-k pooling: how many of a video's T snippets speak for a class."""
        return max(1, self.num_snippets // self.top_k_divisor)

    @property
    def has_background(self) -> bool:
        """Whether L_V and the scores know a background class."""
        return self.action_free == "learn"

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
        return any(
            field.metadata["needs_length"] and getattr(self, field.name) != field.default
            for field in dataclasses.fields(self)
        )


def fields_of_role(role: Role) -> tuple[str, ...]:
    """Names of the settings with a role, in the order of `CaseConfig`.

    Example:
        >>> fields_of_role("model")
        ('num_snippets', 'hidden_dim', 'num_clusters', 'scc', 'ccc', 'top_k_divisor')
    """
    return tuple(field.name for field in dataclasses.fields(CaseConfig) if field.metadata["role"] == role)


def choices_of(name: str) -> tuple[str, ...]:
    """The texts that a setting may be; empty for numbers and switches.

    Example:
        >>> choices_of("scc_labels")
        ('soft', 'hard')
    """
    return _choices(_field(name))


def help_of(name: str) -> str:
    """One line about a setting, for the help of its flag.

    Example:
        >>> help_of("gamma")
        'gamma of Eq. (2), noise tolerance of the attention loss; between 0 and 1, both excluded'
    """
    field = _field(name)
    allowed = field.metadata["allowed"]
    return field.metadata["help"] + (f"; {allowed.words}" if allowed else "")


def _field(name: str) -> dataclasses.Field:
    return CaseConfig.__dataclass_fields__[name]


def _choices(field: dataclasses.Field) -> tuple[str, ...]:
    return typing.get_args(field.type) if typing.get_origin(field.type) is Literal else ()


def _check_value(field: dataclasses.Field, value: Any) -> None:
    """Rejects a value that the setting may not have."""

    def require(holds: bool, expected: str) -> None:
        if not holds:
            raise InputError(f"--{field.name}: is {value!r}; expected {expected}")

    numbers = value if isinstance(value, tuple) else (value,)
    require(all(math.isfinite(number) for number in numbers if isinstance(number, float)), "finite")
    if allowed := field.metadata["allowed"]:
        require(allowed.holds(value), allowed.words)
    if choices := _choices(field):
        require(value in choices, "one of " + ", ".join(choices))
