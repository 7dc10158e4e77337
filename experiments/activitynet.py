"""Trains and evaluates CASE on ActivityNet v1.2 or v1.3, from the files as they are found.

python -m experiments.activitynet --flagfile=experiments/flags/activitynet13.flags --data_dir=D --workdir=W

The same flags and the same workdir as `experiments.thumos`; `case_jax/data/activitynet.py` tells the forms
that annotations and features may have.
"""

from experiments import cli
from experiments.thumos import main

if __name__ == "__main__":
    cli.run(main)
