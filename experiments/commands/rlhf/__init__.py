"""Commands of `jsafe rlhf`; see `experiments.commands`."""

from experiments.cli.app import Command

_HERE = "experiments.commands.rlhf"
_STAGES = f"{_HERE}.stages"

COMMANDS: dict[str, Command] = {
    "demo": Command(f"{_HERE}.rlhf_demo", "Run all of Safe RLHF on a synthetic corpus, in about ten minutes."),
    "experiment": Command(f"{_HERE}.rlhf_experiment", "Run or resume the stages that a file declares."),
    "sft": Command(f"{_STAGES}.rlhf_sft", "Fine-tune a language model on responses."),
    "reward": Command(f"{_STAGES}.rlhf_reward", "Train a reward model on preference pairs."),
    "cost": Command(f"{_STAGES}.rlhf_cost", "Train a cost model on preference pairs with safety labels."),
    "ppo": Command(f"{_STAGES}.rlhf_ppo", "Train a language model with PPO; costs are only reported."),
    "ppo-lag": Command(f"{_STAGES}.rlhf_ppo_lag", "Train a language model with PPO and limits on its costs."),
    "reward-shaping": Command(
        f"{_STAGES}.rlhf_reward_shaping", "Train a language model with PPO on the reward minus a multiple of the cost."
    ),
    "dpo": Command(f"{_STAGES}.rlhf_dpo", "Train a language model with DPO on preference pairs."),
    "moderation": Command(f"{_STAGES}.rlhf_moderation", "Train a classifier of responses by category of harm."),
    "pretrain": Command(f"{_STAGES}.rlhf_pretrain", "Pretrain a language model on plain text."),
    "scaling": Command(f"{_HERE}.rlhf_scaling", "Fit loss against compute, and extrapolate it."),
    "generate": Command(f"{_HERE}.rlhf_generate", "Sample responses to prompts."),
    "chat": Command(f"{_HERE}.rlhf_chat", "Chat with a model in the terminal."),
    "evaluate": Command(f"{_HERE}.rlhf_evaluate", "Compare language models by reward and cost models."),
    "flagged": Command(f"{_HERE}.rlhf_flagged", "Count the responses that moderation models flag."),
    "harness": Command(f"{_HERE}.rlhf_harness", "Evaluate a language model on multiple choice and GSM8K."),
    "plan": Command(f"{_HERE}.rlhf_plan", "Estimate the memory of a stage on each device of a mesh."),
    "bench": Command(f"{_HERE}.rlhf_bench", "Measure tokens per second and memory of each stage."),
    "export": Command(f"{_HERE}.rlhf_export", "Write the model of a checkpoint in Hugging Face's layout."),
}
