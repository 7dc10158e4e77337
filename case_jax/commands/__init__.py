"""What `case-jax NAME` and `python -m experiments.NAME` run: flags, one config, calls of the library."""
