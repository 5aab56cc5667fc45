"""The command ``icl methods``."""

from __future__ import annotations

from typing import Annotated

import typer


def methods(
    method: Annotated[str | None, typer.Argument(help="Show this method's parameters.")] = None,
) -> None:
    """List the ways of learning, or the parameters of one with their defaults.

    Example: icl methods lora
    """
    from icl.learners.registry import about, is_meta_learner, learner_class, validate
    from icl.learners.registry import methods as names
    from icl.reporting.effort import written

    if method is None:
        for name in names():
            typer.echo(f"{name:17} {about(name)}" + (" [meta-trained]" * is_meta_learner(name)))
        return
    params = validate(method, {})
    typer.echo(f"{method}: {about(method)}")
    for name, field in type(params).model_fields.items():
        told = str(field.annotation).replace("typing.", "")
        kind = getattr(field.annotation, "__name__", told) if "[" not in told else told
        typer.echo(f"  {name} = {getattr(params, name)!r}  ({kind})")
    searched = {name: list(values) for name, values in learner_class(method).search.items()}
    typer.echo(f"  searched by `tuning`: {written(searched) or 'nothing'}")
