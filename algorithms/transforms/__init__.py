"""Transforms of the decision process before learning, shared by the families of algorithms.

A transformed process is an environment around another one (`budget_wrapper`), one module for each kind. The learner
maximises its `State.reward`. The reported reward stays that of the wrapped environment (`State.original_reward`), and
costs stay as they are.

Limits and budgets are traced and may differ across a population. An environment holds no arrays, so limits and budgets
are entries of `State.info`, outlive episodes (`Env.carry_over`) and are set by an `algorithms.spec.Schedule`.
"""
