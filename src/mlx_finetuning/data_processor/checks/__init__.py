"""What is wrong with examples, and which say the same. Changes nothing."""
