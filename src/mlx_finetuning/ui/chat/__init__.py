"""The parts of the page 対話: conversations, all questions at once, marks, and Ollama."""
