"""`jsafe sketch`: generative models of drawings.

Flags that several commands share are in `shared`; everything that computes is in the library `sketch`.
"""

from experiments.cli.app import Command, CommandGroup

_PACKAGE = "experiments.commands.sketch"

COMMANDS: dict[str, Command | CommandGroup] = {
    "demo": Command(f"{_PACKAGE}.sketch_demo", "Train all stages on procedural drawings, and write a page of samples."),
    "experiment": Command(
        f"{_PACKAGE}.sketch_experiment", "Run the stages that a file declares, or resume an experiment."
    ),
    "evaluate": Command(
        f"{_PACKAGE}.sketch_evaluate", "Compare systems with people, by judges that none of them was trained on."
    ),
    "bench": Command(
        f"{_PACKAGE}.sketch_bench",
        "Measure training, sampling and rendering in drawings per second, with their floors.",
    ),
    "train": Command(f"{_PACKAGE}.sketch_train", "Train a Sketch-RNN, plain or guided by a predictor."),
    "predictor": Command(f"{_PACKAGE}.sketch_predictor", "Train a predictor of the next stroke from the canvas."),
    "discriminator": Command(f"{_PACKAGE}.sketch_discriminator", "Train a discriminator of recognisable drawings."),
    "judge": Command(f"{_PACKAGE}.sketch_judge", "Train a classifier of people's drawings, for evaluation only."),
    "reward": Command(f"{_PACKAGE}.sketch_reward", "Reinforce a generator by the log odds of a discriminator."),
    "generate": Command(f"{_PACKAGE}.sketch_generate", "Sample drawings from a model."),
    "complete": Command(f"{_PACKAGE}.sketch_complete", "Complete unfinished drawings."),
    "interpolate": Command(
        f"{_PACKAGE}.sketch_interpolate", "Interpolate between two drawings, with a model that has an encoder."
    ),
    "show": Command(f"{_PACKAGE}.sketch_show", "Summarise the drawings of a file, and render them as PNG."),
    "export": Command(f"{_PACKAGE}.sketch_export", "Write the model of a run or of one of its checkpoints."),
    "draw": Command(f"{_PACKAGE}.draw.sketch_draw", "Serve a drawing page where the model completes your sketch."),
}
