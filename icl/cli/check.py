"""The command ``icl check gradients``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from icl.cli.run import Data
from icl.errors import IclError

app = typer.Typer(help="Ask whether something will come out right.", no_args_is_help=True)

_TASKS = 2


@app.command()
def gradients(
    config: Annotated[
        str, typer.Argument(help="An experiment's YAML file, or the name of one icl brings along.")
    ],
    data: Data = None,
) -> None:
    """Check an experiment's meta-gradients with its own models, before hours are spent.

    For each gradient meta-learner: second order, checkpointing, batching and precision, on two
    one-shot training episodes. Exit code 1 where one of them is wrong.
    """
    from icl.experiments.config import load_config
    from icl.experiments.episodes import prepare_family, training_sampler
    from icl.experiments.models import make_models
    from icl.learners.gradient.meta_learner import LoraMetaLearner
    from icl.learners.registry import learner_class, make
    from icl.tools.shipped import find_config
    from icl.training.gradient_check import check_gradients, kernel

    experiment = load_config(find_config(config)).with_data(data)
    family = prepare_family(experiment)
    models, several = make_models(experiment), len(experiment.by_name) > 1
    console, told = Console(), set[str]()
    table = Table("learner", "asked", "difference", "at most", "", "compared")
    wrong = asked = 0
    for name, learner in experiment.learners.items():
        complete = learner.complete()
        if complete.training is None:
            continue
        if not issubclass(learner_class(complete.method), LoraMetaLearner):
            continue  # its model is not loaded for nothing
        backbone, label = models[name].backbone(), models[name].label
        if label not in told:
            told.add(label)
            of = f" of {escape(label)}" if several else ""
            console.print(f"Attention{of}: {kernel(backbone)}.", highlight=False)
        made = make(complete.method, complete.params().model_dump(), backbone)
        assert isinstance(made, LoraMetaLearner)
        training = complete.training.model_copy(update={"shots": 1, "queries": 5})
        sampler = training_sampler(experiment, family, name, training)
        asked += 1
        for check in check_gradients(made, [sampler.episode(i, 1) for i in range(_TASKS)]):
            wrong += not check.passed
            found = "-" if check.error is None else f"{check.error:.1e}"
            verdict = "right" if check.passed else "WRONG"
            table.add_row(
                escape(name), check.name, found, f"{check.limit:.0e}", verdict, check.note
            )
    if not asked:
        raise IclError(f"The experiment {config!r} has no gradient meta-learner, such as 'maml'.")
    console.print(table)
    if wrong:
        console.print(f"{wrong} answers are wrong: take another dtype, or another model.")
        raise typer.Exit(1)
    console.print("All gradients are right.")
