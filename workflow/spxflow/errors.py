"""Errors that a user can mend; their text is one clear line."""

from __future__ import annotations


class ConfigError(ValueError):
    """An option that cannot be used: names the option, what it got and what it takes."""
