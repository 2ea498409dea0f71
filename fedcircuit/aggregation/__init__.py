"""The mathematics of aggregation rules: pure functions over named weights, one file a rule."""
