"""The work: configuration, data, training, evaluation, deployment, commands."""
