"""Episodes: drawn by seed, the same for every learner."""
