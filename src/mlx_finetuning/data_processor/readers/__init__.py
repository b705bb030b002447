"""Files as they come: encodings, table formats and columns, up to records. Judges no row."""
