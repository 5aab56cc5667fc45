"""What docs/in-context.md shows is what the code takes."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from icl.learners.prompting.params import InContextParams
from icl.learners.registry import validate
from icl.prompting.templates import TEMPLATES
from icl.training import TrainingConfig

PAGE = (Path(__file__).parents[2] / "docs" / "in-context.md").read_text("utf-8")


def test_every_learner_on_the_page_is_valid() -> None:
    shown = 0
    for block in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL):
        found = yaml.safe_load(block)
        for learner in found.get("learners", found).values():
            training = learner.pop("training", None)
            validate(learner.pop("method"), learner)
            if training is not None:
                TrainingConfig.model_validate(training)
            shown += 1
    assert shown == 3


def test_every_parameter_and_template_is_on_the_page() -> None:
    named = set(re.findall(r"`([\w-]+)", PAGE))
    assert set(InContextParams.model_fields) <= named
    assert set(TEMPLATES) <= named
