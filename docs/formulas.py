"""Hook of mkdocs: ``math`` blocks become MathML, which browsers draw without a script."""

from html import escape

from latex2mathml.converter import convert


def on_config(config):
    """Give the extension that reads fenced blocks one more kind of them."""
    fence = {"name": "math", "class": "math", "format": _mathml}
    config["mdx_configs"].setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
    return config


def _mathml(source, language, css_class, options, md, **_):
    return f'<div class="{escape(css_class)}">{convert(source, display="block")}</div>'
