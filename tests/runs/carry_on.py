"""A process that carries on with experiments and labellings, each by the copy of icl beside it.

``python carry_on.py PLACE...``: what stands in a place is read and written there alone. Heavy
libraries are loaded once; each place then has a process of its own, forked before any of icl is.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def carry_on() -> None:
    """Run the experiment of the current directory, and two labellings up to their last line."""
    here = Path.cwd()
    sys.path[:0] = [str(here / "package"), str(here / "methods")]
    os.environ |= {"ICL_CACHE": str(here / "cache"), "ICL_EMBEDDINGS": str(here / "embeddings")}
    import icl
    from icl.experiments import experiment
    from icl.experiments.config import load_config
    from icl.labelling import job

    assert Path(icl.__file__).is_relative_to(here)

    def unfinished(*_: Any) -> None:
        raise InterruptedError

    experiment.write_outcome = lambda *_, **__: experiment.Comparison(())
    job.write_table = unfinished
    config = load_config(here / "experiment.yaml")
    experiment.run_experiment(config, here / "run", command="")
    for name in ("in-context", "mine"):
        try:
            job.label_table(
                here / "labelled.csv",
                here / "new.csv",
                here / f"{name}.csv",
                method=config.learners[name].method,
                model="model",
            )
        except InterruptedError:
            continue


def main(places: Sequence[str]) -> int:
    """Carry on in each place, one after the other; return how many have failed."""
    import pandas  # noqa: F401
    import peft  # noqa: F401
    import sklearn.feature_extraction.text  # noqa: F401
    import transformers

    assert transformers.AutoModelForCausalLM and transformers.LlamaForCausalLM
    assert not [name for name in sys.modules if name.split(".")[0] == "icl"]
    failed = 0
    for place in places:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.chdir(place)
                carry_on()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        failed += os.waitpid(child, 0)[1] != 0
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
