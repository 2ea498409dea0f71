"""Digits over clients that hold different classes, with circuits after every round."""
