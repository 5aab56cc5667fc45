"""Loading: names, files, and checks of what was loaded."""
