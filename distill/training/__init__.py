"""Training: tasks, the loop, and what surrounds it."""
