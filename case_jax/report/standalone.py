"""Pages that are one file each: the styles, scripts and data of a page stand inside it. Needs jinja2."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import markupsafe

from case_jax import __version__

__all__ = ["render"]


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
    """
    loader = jinja2.PackageLoader("case_jax.report", "template")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)

    def contents(files: Sequence[str]) -> markupsafe.Markup:
        return markupsafe.Markup("\n".join(loader.get_source(environment, file)[0] for file in files))

    return environment.get_template(page).render(
        style=contents(styles), script=contents(scripts), data=_as_script(data), version=__version__, **values
    )


def _as_script(data: Mapping[str, Any]) -> markupsafe.Markup:
    """JSON that is safe inside a <script>: without "<", nothing in it can end the element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return markupsafe.Markup(text.replace("<", "\\u003c"))
