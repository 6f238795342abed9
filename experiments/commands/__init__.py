"""Commands of `jsafe`: one module per command, one package per group of commands.

A command module holds a request (typed settings, whose fields are the flags) and `run`:

    @flags
    class EvalRequest:  # its docstring's `Attributes:` are the help texts, one noun phrase each
        run: Folder = positional()
        episodes: Count = 100
        machine: Machine = Machine()  # flags that several commands share: experiments.cli.shared_flags
        output: Output = Output()  # always last: --json and --debug

    def run(request: EvalRequest) -> Result:
        from jsafe import evaluate  # JAX is imported inside, so that --help does not wait for it
        ...
        return Result(data, text)

Types of fields are in `experiments.cli.argument_types`, hyper-parameters in `experiments.cli.config_flags`. The
listing below names each command; a group has the same in its `__init__.py`. A field's underscores become dashes.
A mistake of the user raises `CommandError`. Commands do not import one another: shared code is library code.
"""

from experiments.cli.app import Command, CommandGroup

COMMANDS: dict[str, Command | CommandGroup] = {
    "train": Command(
        "experiments.commands.train",
        "Train an algorithm on an environment, or resume a run.",
        specialized=True,
        epilogue="`jsafe train ALGO --help` also lists the hyper-parameters of that algorithm.",
    ),
    "eval": Command("experiments.commands.eval", "Run test episodes with the policies of a run."),
    "render": Command("experiments.commands.render", "Film an episode of a trained policy."),
    "report": Command("experiments.commands.report", "Write a self-contained HTML page about one or several runs."),
    "demo": Command("experiments.commands.demo", "Train, evaluate and report in about five minutes."),
    "envs": Command("experiments.commands.envs", "List the environments."),
    "algorithms": Command("experiments.commands.algorithms", "List the algorithms, or the hyper-parameters of one."),
    "optimum": Command(
        "experiments.commands.optimum", "Train algorithms on problems with a known optimum, and compare with it."
    ),
    "published": Command("experiments.commands.published", "Compare runs with the results that OmniSafe published."),
    "throughput": Command(
        "experiments.commands.throughput", "Measure environment steps per second next to the bare simulator."
    ),
    "bench": Command("experiments.commands.bench", "Measure the speed tables of the documentation on this machine."),
    "rlhf": CommandGroup(
        "experiments.commands.rlhf", "Safe reinforcement learning from human feedback, on language models."
    ),
    "sketch": CommandGroup("experiments.commands.sketch", "Generative models of drawings: training and sampling."),
}
