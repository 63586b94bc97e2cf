"""The version of the package: the one place that states it.

In: nothing. Out: ``__version__``, read by the build (pyproject.toml), the cache keys and ``pairfuse info``.
"""

__version__ = "0.1.0"
