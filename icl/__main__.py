"""``python -m icl``: the same as the command ``icl``."""

from icl.cli.main import main

main()
