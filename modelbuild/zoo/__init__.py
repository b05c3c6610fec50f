"""The networks and data sets of the examples; small enough to train on one core in seconds."""
