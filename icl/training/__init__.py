"""Meta-training over episodes."""
