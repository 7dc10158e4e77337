"""Speed, measured against named peers: `python -m benchmarks.NAME`; each ends with one line of JSON."""

from case_jax.commands import jax_variables as jax_variables  # before any benchmark imports jax
