"""One metric a file, as ``evaluate.load`` takes them; see `icl.metrics.load`."""
