"""PPO and PPO-Lagrangian on language models."""
