"""The published code's PyTorch checkpoint to a workdir of ours, and back. The command `case-jax convert`."""

from case_jax.commands import cli, convert

if __name__ == "__main__":
    cli.run(convert)
