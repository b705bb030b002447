"""The parts of the page Ollama: conversations, registration, and the models in it."""
