"""Parts that several pages are made of. Each draws what it is given and decides nothing."""
