"""mAP, or average recall, of any ActivityNet-format prediction file. The command `case-jax evaluate`."""

from case_jax.commands import cli, evaluate

if __name__ == "__main__":
    cli.run(evaluate)
