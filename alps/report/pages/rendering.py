"""Render the pages of the reports from templates."""

from __future__ import annotations

import functools
from pathlib import Path

import jinja2

from alps.report.charts.numbers import count, css_color, decimal, percent, score, table_percent


def render(template: str, **values: object) -> str:
    """Render a template with ``values``, which are escaped for HTML."""
    return _environment().get_template(template).render(values)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (count, css_color, decimal, percent, score, table_percent)
    environment.filters |= {f.__name__: f for f in filters}
    return environment
