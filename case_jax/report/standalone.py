"""Pages that are one file each: the styles, scripts and data of a page stand inside it.

jinja2 (extra `plots`) is imported only when a page is made, so that a command can first ask whether it is
there.
"""

import importlib.util
import json
from collections.abc import Mapping, Sequence
from typing import Any

from case_jax import __version__
from case_jax.errors import InputError

__all__ = ["render", "require_jinja2"]


def require_jinja2() -> None:
    """Checks, before any work is done, that a page can be made.

    Raises:
        InputError: if jinja2 is not installed.
    """
    if importlib.util.find_spec("jinja2") is None:
        raise InputError(
            "jinja2: is not installed, and pages need it; expected pip install 'case_jax[plots]'"
        )


def render(
    page: str, *, styles: Sequence[str], scripts: Sequence[str], data: Mapping[str, Any], **values: Any
) -> str:
    """A page as text. It loads nothing but what its template names.

    Args:
        page: the template's file in `case_jax/report/template`.
        styles: style sheets beside it, in order.
        scripts: scripts beside it, in order.
        data: what the scripts show; JSON without NaN.
        values: what the template shows; all text is escaped.

    Returns:
        The HTML.

    Raises:
        InputError: if jinja2 is not installed.
    """
    require_jinja2()
    import jinja2
    import markupsafe

    loader = jinja2.PackageLoader("case_jax.report", "template")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)

    def contents(files: Sequence[str]) -> markupsafe.Markup:
        return markupsafe.Markup("\n".join(loader.get_source(environment, file)[0] for file in files))

    return environment.get_template(page).render(
        style=contents(styles),
        script=contents(scripts),
        data=markupsafe.Markup(_as_script(data)),
        version=__version__,
        **values,
    )


def _as_script(data: Mapping[str, Any]) -> str:
    """JSON that is safe inside a <script>: without "<", nothing in it can end the element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
