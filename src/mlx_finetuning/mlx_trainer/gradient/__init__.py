"""Loss and gradient of a batch, and how they are computed with less memory and work."""
