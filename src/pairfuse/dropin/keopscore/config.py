"""`keopscore.config`: a place for the switches that programs set; they have no effect here.

Data on the CPU is computed on the CPU, data on a GPU there, whatever `use_cuda` says.
"""

from __future__ import annotations

from types import SimpleNamespace

from pairfuse.dropin.absent import NO_COMPILER, refusing

use_cuda = False
config = SimpleNamespace(use_cuda=False)

__getattr__ = refusing(
    __name__, dict.fromkeys(("cuda_config", "openmp_config", "platform_detector", "base_config"), NO_COMPILER)
)
