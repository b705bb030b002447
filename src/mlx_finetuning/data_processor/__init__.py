"""Source files to datasets: read, find columns, clean, check, split, write. Knows no model.

source      a file that is handed in; it is only read
row         a line of a source (the header is 1), and the line of a split's file made from it, which
            carries that number as `row`
record      what a reader gives for a row: its number and a value per column
column map  which column plays which role (question, answer, …), and so the kind of example
example     what is learned from a record: turns with their row, category and group
keys        what examples are compared by: the folded question, digests of the answer and of all
edit        a step that changes a record by hand before anything is made of it
correction  an answer that was put right in a conversation, applied to examples
finding     a code with a Japanese text, and the rows it is about
group       examples that say the same thing; a split takes it whole

`readers/` give records, `examples` makes examples of them, `checks/` judge these and change nothing,
`clean`, `split` and `store` are the steps that `examine` and `prepare` compose.
"""

from mlx_finetuning.data_processor.prepare import DatasetSummary, Inspection, inspect, prepare
from mlx_finetuning.data_processor.reproduce import Manifest, read_manifest, reproduce
from mlx_finetuning.data_processor.samples import SAMPLE_DATA, TEMPLATES
from mlx_finetuning.data_processor.store import recover
from mlx_finetuning.tokenization.rows import read_rows

__all__ = [
    "SAMPLE_DATA",
    "TEMPLATES",
    "DatasetSummary",
    "Inspection",
    "Manifest",
    "inspect",
    "prepare",
    "read_manifest",
    "read_rows",
    "recover",
    "reproduce",
]
