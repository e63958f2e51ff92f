"""SPHEREx spectrophotometry: every exposure of a sky position, found, fetched, measured and tabulated.

The package is plain Python; Snakemake stands only in the ``Snakefile``, ``workflow/rules`` and ``scripts``.
"""

__version__ = "0.1.0"
