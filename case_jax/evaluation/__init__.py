"""How good detections are. Plain numpy: nothing here imports jax."""
