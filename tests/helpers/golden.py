"""Recorded steps of the published code, as states, batches and parameters of ours."""

import jax
import jax.numpy as jnp
import numpy as np

from case_jax.config import CaseConfig
from case_jax.runs.published import params_from_published
from case_jax.training.state import create_train_state

STREAMS = ("rgb", "flow")


def golden_start(golden, run):
    """The state that a recorded run starts with, and its arrays."""
    arrays, init = np.load(golden / f"{run}.npz"), np.load(golden / "init_state.npz")
    config = CaseConfig(
        num_snippets=64,
        batch_size=4,
        sigma=0.2 if "std0.2" in run else 10.0,
        prior_rank="true" if "truerank" in run else "permutation",
        # The published baseline computes clusters and gives them no weight.
        **({"lambda_s": 0.0, "lambda_c": 0.0} if run.startswith("base") else {}),
    )
    state = create_train_state(
        config, jax.random.key(0), stream_widths=dict.fromkeys(STREAMS, 1024), num_classes=20
    )
    params = jax.tree.map(jnp.asarray, params_from_published(init, STREAMS))
    return state.replace(params=params, cluster_labels=jnp.asarray(arrays["prev_cls_gt0"])), arrays


def golden_batch(golden, run, step, dtype=np.float32):
    """The batch of a step, from 0, of a recorded run."""
    batches = np.load(golden / "batches.npz")
    which = 0 if "std0.2" in run else step
    x, y = batches["x"][which].astype(dtype), batches["y"][which].astype(dtype)
    return {"features": {"rgb": x[..., :1024], "flow": x[..., 1024:]}, "labels": y}


def largest_differences(ours, arrays):
    """The largest difference of each parameter array from the recorded final one."""
    final = {name[6:]: arrays[name] for name in arrays.files if name.startswith("final_")}
    theirs = params_from_published(final, STREAMS)
    return jax.tree.map(lambda a, b: float(np.abs(np.asarray(a) - b).max()), dict(ours), theirs)
