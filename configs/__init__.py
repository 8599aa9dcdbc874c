"""The configuration files that are shipped: `symdistill distill --config quickstart` finds them by name."""
