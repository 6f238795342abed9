"""The third axis of an on-policy algorithm: how the decision process is rewritten before learning.

A rewritten process is an environment around another one (`wrapper`), one module for each kind. The learner maximises
its `State.reward`; what is reported stays the reward of the wrapped environment (`State.original_reward`), and costs
stay as they are.

Limits and budgets are traced and may differ across a population. An environment holds no arrays, so they stand in
`State.info`, outlive episodes (`Env.carry_over`) and are set by a `parts.Schedule`.
"""
