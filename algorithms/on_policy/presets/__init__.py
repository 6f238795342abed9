"""Published hyper-parameters of the on-policy algorithms, one module of data for each source.

- `paper` (the default): the method as its paper writes it, with the sizes and rates the benchmarks published for it.
  Episodes continue across iterations.
- `omnisafe`: as OmniSafe runs it. Every iteration starts from fresh resets, and the divergence of a trust region is
  averaged over action dimensions.
- `safepo`: as SafePO runs the algorithms it has. Ten environments, one bound on the gradient of all networks together,
  and a mean over 50 episodes.

Where a library departs from a paper, its preset sets a documented switch of the part concerned. A preset replaces
defaults of the class of hyper-parameters; what the user passes replaces both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from algorithms.on_policy.presets import omnisafe, paper, safepo


def presets_of(name: str) -> dict[str, Mapping[str, Any]]:
    """Presets of an algorithm: name to the defaults that it replaces."""
    libraries = {"omnisafe": omnisafe.PRESETS, "safepo": safepo.PRESETS}
    paper_preset: dict[str, Mapping[str, Any]] = {"paper": paper.PRESETS.get(name, {})}
    return paper_preset | {library: presets[name] for library, presets in libraries.items() if name in presets}
