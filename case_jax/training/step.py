"""One pure training step, with both Sinkhorn solves in it."""

import jax
import optax

from case_jax.method.network import normalize_prototypes
from case_jax.method.objective import Batch, Metrics, joint_loss
from case_jax.training.state import TrainState, make_optimizer

__all__ = ["train_step"]


def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """One step of joint training, Eq. (14). Pure; jit it where it is called.

    Args:
        state: the state; its Q^C feeds this step's prior (Eq. 11).
        batch: "features": stream name -> (B, T, D) float32 or bfloat16; "labels": (B, G) float32 multi-hot.

    Returns:
        The next state, and metrics, each a () float32: those of `case_jax.method.objective.METRICS` whose
        component is on.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from case_jax import CaseConfig, create_train_state
        >>> config = CaseConfig(num_snippets=16, hidden_dim=8, num_clusters=4)
        >>> state = create_train_state(
        ...     config, jax.random.key(0), stream_widths={"rgb": 5, "flow": 3}, num_classes=2
        ... )
        >>> batch = {
        ...     "features": {"rgb": jnp.ones((2, 16, 5)), "flow": jnp.ones((2, 16, 3))},
        ...     "labels": jnp.array([[1.0, 0.0], [1.0, 1.0]]),
        ... }
        >>> new_state, metrics = jax.eval_shape(train_step, state, batch)  # or jax.jit(train_step)
        >>> new_state.cluster_labels.shape, metrics["loss"].dtype
        ((4, 2), dtype('float32'))
    """
    params = normalize_prototypes(state.params)
    gradients, (metrics, cluster_labels) = jax.grad(joint_loss, has_aux=True)(
        params, batch, state.cluster_labels, state.step, network=state.network, config=state.config
    )
    updates, opt_state = make_optimizer(state.config).update(gradients, state.opt_state, params)
    new_state = state.replace(
        step=state.step + 1,
        params=optax.apply_updates(params, updates),
        opt_state=opt_state,
        cluster_labels=cluster_labels,
    )
    # If this norm is infinite, Adam's second moments are, too: these weights would never move again, while
    # every loss stays finite.
    return new_state, {**metrics, "gradient_norm": optax.tree.norm(gradients)}
