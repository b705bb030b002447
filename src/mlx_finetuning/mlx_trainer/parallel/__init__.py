"""Who computes an update: this process, local worker processes, ranks on other machines."""
