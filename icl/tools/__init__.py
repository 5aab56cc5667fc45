"""Tools: what every room uses and no room is about."""
