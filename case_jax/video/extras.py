"""Packages that only the extra `video` installs."""

import importlib
from types import ModuleType

from case_jax.errors import InputError

__all__ = ["import_extra"]

_PACKAGES = {"av": "PyAV", "cv2": "opencv-contrib-python-headless"}


def import_extra(module: str) -> ModuleType:
    """Imports a module of the extra `video` where it is needed, so that the rest works without it.

    Args:
        module: "av" or "cv2", or a module inside one of them.

    Returns:
        The module.

    Raises:
        InputError: if its package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = _PACKAGES[module.partition(".")[0]]
        raise InputError(
            f"{package}: is not installed, and videos need it; expected pip install 'case_jax[video]'"
        ) from None
