"""From class activation sequences to detections, and their mAP. Plain numpy; never imports jax."""
