"""Trains and evaluates CASE on THUMOS14, or on data laid out like it; see `case-jax train`."""

from case_jax.commands import cli, train

if __name__ == "__main__":
    cli.run(train)
