"""Documents as what can be asked about: read into blocks, cut into chunks, asked about, checked.

`readers` turn a file into a `Document`, `chunks` cut it along its headings, `generate` has a model write
question-answer pairs about each chunk, `checks` judge every pair without a model. Knows no model, no
tables and no encodings: whoever composes it (`document_files`, `tasks/generate`) hands those in.
"""
