"""One script a rule, and what rules share: from inputs and params to outputs, by the package."""
