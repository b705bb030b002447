"""One module a format, each with a function that gives a `Document`; `read` chooses by the ending."""
