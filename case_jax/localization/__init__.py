"""From class activation sequences to detections. Plain numpy: nothing here imports jax."""
