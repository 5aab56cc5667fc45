"""What holds for every test: no network, one thread, the user's own folders left alone."""

from __future__ import annotations

import os
import tempfile

# Tiny models are slower on several threads than on one; and both must be set before torch loads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
# Embeddings are kept in a folder of this session's own.
_EMBEDDINGS = tempfile.TemporaryDirectory(prefix="icl-embeddings-")
os.environ["ICL_EMBEDDINGS"] = _EMBEDDINGS.name
