"""A prompt study in a terminal, and its sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icl.evaluation.decomposition import Effect
from icl.evaluation.sensitivity import Choice, Sensitivity
from icl.reporting.numbers import NBSP, p_value, percent, points, span
from icl.reporting.terminal import titled
from icl.reporting.verdict import SIGNIFICANT

if TYPE_CHECKING:
    from rich.console import Console

_PAIRS_SHOWN = 3
FORMULA = (
    "Shares of the variance of the prompts' mean test accuracies (full factorial): "
    "SS(A) / SS with SS(A) = N/a · Σ (mean of level − overall mean)², a levels, N prompts × shots. "
    "By luck: the share that the noise of so few episodes would give a factor without effect. "
    "p: repeated-measures F test with draws as subjects, Holm-corrected."
)
HONEST = (
    "Each best prompt was chosen on the validation episodes alone; its accuracy there is "
    "optimistic, its test accuracy is not. Hindsight is the highest test accuracy of any prompt, "
    "which nobody could have chosen. Intervals: 95 %, clustered by draw and item."
)


def sentence(found: Sensitivity) -> str:
    """Return what a reader should take home: how much the prompt matters, and what of it."""
    widest = max(found.spreads, key=lambda spread: spread.highest - spread.lowest)
    sure = [e for e in singles(found) if e.p is not None and e.p < SIGNIFICANT]
    cause = (
        f"{sure[0].factors[0]} explains {percent(sure[0].share, 0)} of the variance"
        if sure
        else "no single factor explains more than luck could"
    )
    return (
        f"The same examples asked for in {found.prompts} ways give {percent(widest.lowest)} to "
        f"{percent(widest.highest)} at {shots(widest.shots)}; {cause}."
    )


def singles(found: Sensitivity) -> list[Effect]:
    """Return the effects of single factors, the largest first."""
    return [effect for effect in found.effects if len(effect.factors) == 1]


def pairs(found: Sensitivity) -> list[Effect]:
    """Return the largest interactions of two factors."""
    return [effect for effect in found.effects if len(effect.factors) > 1][:_PAIRS_SHOWN]


def shots(number: int) -> str:
    """Name a number of shots."""
    return f"{number}{NBSP}shot{'s' * (number != 1)}"


def against_default(choice: Choice, default: str) -> str:
    """Say how the chosen prompt does against the default one, paired."""
    if choice.prompt == default:
        return "is the default"
    low, high = points(choice.difference.low), points(choice.difference.high)
    return f"{points(choice.difference.mean)} ({low} to {high}, p {p_value(choice.p)})"


def print_sensitivity(found: Sensitivity, console: Console) -> None:
    """Print sentence, spread, causes, levels and best prompts."""
    from rich.text import Text

    console.print(Text(sentence(found), style="bold"))
    console.print()
    figures = ("Worst", "Mean", "Best", "Deviation", "Chance")
    spread = titled("Spread of all prompts on the test episodes", {"Shots": 1}, figures)
    for s in found.spreads:
        cells = (s.lowest, s.mean, s.highest, s.deviation, s.chance)
        spread.add_row(str(s.shots), *map(percent, cells))
    console.print(spread)
    console.print()
    causes = titled("What explains the variance", {"Factor": 1}, ("Share", "By luck", "p"))
    for effect in (*singles(found), *pairs(found)):
        luck = "" if effect.luck is None else percent(effect.luck)
        p = "" if effect.p is None else p_value(effect.p)
        causes.add_row(Text(" × ".join(effect.factors)), percent(effect.share), luck, p)
    causes.add_row("three and more together", percent(found.rest), "", "")
    console.print(causes)
    console.print()
    levels = titled("Mean test accuracy by level", {"Factor": 1})
    levels.add_column("Level")
    levels.add_column("Accuracy", justify="right")
    for level in found.levels:
        levels.add_row(Text(level.factor), Text(level.level), percent(level.accuracy))
    console.print(levels)
    console.print()
    for c in found.choices:
        console.print(Text(f"Best prompt at {shots(c.shots)}: {c.prompt}", style="bold"))
        console.print(
            Text(
                f"  validation {percent(c.validation.mean)} (chosen there); test "
                f"{percent(c.test.mean)} ({span(c.test.low, c.test.high)}); the default "
                f"{percent(c.default.mean)}, difference {against_default(c, found.default)}; "
                f"hindsight {percent(c.hindsight)}"
            )
        )
    console.print()
    console.print(Text(f"{FORMULA} {HONEST}", style="dim"))
