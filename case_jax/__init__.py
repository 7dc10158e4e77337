"""CASE: weakly-supervised temporal action localization by snippet clustering, in JAX and Flax.

The public names are imported on first use, so that `case_jax.localization` and the readers in
`case_jax.data`, which are plain numpy, can be used without loading jax.
"""

import importlib
import sys
import types

__version__ = "0.2.0"

_HOME = {  # public name -> the module that defines it
    "CaseConfig": "config",
    "CaseNetwork": "method.network",
    "Detection": "localization.detections",
    "Evaluator": "evaluator",
    "InputError": "errors",
    "Localizer": "localizer",
    "Run": "runs.run",
    "SinkhornResult": "sinkhorn",
    "TrainState": "training.state",
    "create_train_state": "training.state",
    "fit": "training.loop",
    "gaussian_rank_prior": "sinkhorn",
    "load_dataset": "data.load",
    "score_videos": "method.scores",
    "sinkhorn": "sinkhorn",
    "sinkhorn_with_error": "sinkhorn",
    "train_step": "training.step",
    "write_report": "report.write",
}

__all__ = sorted(_HOME)


class _Package(types.ModuleType):
    """Keeps `case_jax.sinkhorn` the function although a submodule has the same name.

    When a submodule is imported, Python binds it as an attribute of its package. That would turn
    `from case_jax import sinkhorn` into a module for whoever imported `case_jax.sinkhorn` before, so
    this one attribute is a property that ignores the binding.
    """

    @property
    def sinkhorn(self):
        return importlib.import_module("case_jax.sinkhorn").sinkhorn

    @sinkhorn.setter
    def sinkhorn(self, submodule):
        del submodule  # still in sys.modules, so `from case_jax.sinkhorn import ...` works

    def __getattr__(self, name):
        if name in _HOME:
            return getattr(importlib.import_module(f"case_jax.{_HOME[name]}"), name)
        raise AttributeError(f"module 'case_jax' has no attribute {name!r}")

    def __dir__(self):
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
