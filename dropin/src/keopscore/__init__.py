"""`keopscore` by Pairfuse: importing this package puts `pairfuse.dropin`'s in its place."""

from pairfuse import dropin

dropin.install()
