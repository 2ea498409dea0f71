"""What is looked at after every aggregation: each observer turns a round into tables."""
