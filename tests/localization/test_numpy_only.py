"""Localization and evaluation are plain numpy, so that they can be used where jax is not installed."""

import json
import pkgutil
import subprocess
import sys

import case_jax.evaluation
import case_jax.localization


def test_importing_localization_and_evaluation_does_not_import_jax():
    packages = case_jax.localization, case_jax.evaluation
    modules = [m.name for p in packages for m in pkgutil.iter_modules(p.__path__, f"{p.__name__}.")]
    assert len(modules) >= 12
    code = "".join(f"import {name}\n" for name in modules)
    code += (
        "import json, sys\nprint(json.dumps([n for n in sys.modules if n.split('.')[0] in ('jax', 'flax')]))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == []
