"""What is wrong with rows, and which say the same. Changes nothing."""
