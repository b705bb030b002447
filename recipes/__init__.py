"""How what ships with the package was made. Run from a checkout; not part of the wheel."""
