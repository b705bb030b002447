"""The application as CLI and UI see it: every action on a workspace, and no presentation.

`Studio` has one object per noun, each in a module of its own that is imported when it is first
asked for. What loads MLX or takes long becomes a job in a worker process: the method that starts
it returns a `JobHandle`, and `handle.follow(progress)` waits for its result. Importing this
package loads nothing heavy.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_finetuning.workspace import Workspace

if TYPE_CHECKING:
    from mlx_finetuning.studio.auto import Auto
    from mlx_finetuning.studio.chat import Chat
    from mlx_finetuning.studio.data import Data
    from mlx_finetuning.studio.documents import Documents
    from mlx_finetuning.studio.evaluation import Evaluation
    from mlx_finetuning.studio.exports import Exports
    from mlx_finetuning.studio.importing import Importing
    from mlx_finetuning.studio.jobs import Jobs
    from mlx_finetuning.studio.machine import Machine
    from mlx_finetuning.studio.marks import Marks
    from mlx_finetuning.studio.merging import Merging
    from mlx_finetuning.studio.models import Models
    from mlx_finetuning.studio.ollama import Ollama
    from mlx_finetuning.studio.preferences import Preferences
    from mlx_finetuning.studio.records import Records
    from mlx_finetuning.studio.runs import Runs
    from mlx_finetuning.studio.training import Training
    from mlx_finetuning.studio.tuning import Tuning
    from mlx_finetuning.studio.wordings import Wordings


class Studio:
    """All actions on one workspace. Holds no state of its own: everything is on disk."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    @staticmethod
    def at(folder: str | Path | None = None) -> Studio:
        """A studio whose data and results are kept in `folder`; without one, as for commands, in
        MLX_FINETUNING_HOME or the current directory."""
        return Studio(Workspace.locate(folder))

    @cached_property
    def data(self) -> Data:
        """Source files and the datasets made of them."""
        from mlx_finetuning.studio.data import Data

        return Data(self.workspace)

    @cached_property
    def wordings(self) -> Wordings:
        """Rows that are made of a dataset's own: other wordings, and questions to refuse."""
        from mlx_finetuning.studio.wordings import Wordings

        return Wordings(self.workspace)

    @cached_property
    def documents(self) -> Documents:
        """Documents, and the question-answer pairs made of them."""
        from mlx_finetuning.studio.documents import Documents

        return Documents(self.workspace)

    @cached_property
    def models(self) -> Models:
        """Base models: the catalogue, and those that are here."""
        from mlx_finetuning.studio.models import Models

        return Models(self.workspace)

    @cached_property
    def training(self) -> Training:
        """Starting runs, and estimating what they would take."""
        from mlx_finetuning.studio.training import Training

        return Training(self.workspace)

    @cached_property
    def importing(self) -> Importing:
        """Runs made of adapters from elsewhere."""
        from mlx_finetuning.studio.importing import Importing

        return Importing(self.workspace)

    @cached_property
    def merging(self) -> Merging:
        """Runs made of other runs' adapters."""
        from mlx_finetuning.studio.merging import Merging

        return Merging(self.workspace)

    @cached_property
    def tuning(self) -> Tuning:
        """Finding the settings by a few short runs."""
        from mlx_finetuning.studio.tuning import Tuning

        return Tuning(self.workspace)

    @cached_property
    def auto(self) -> Auto:
        """From a dataset to a conversation in one go."""
        from mlx_finetuning.studio.auto import Auto

        return Auto(self.workspace)

    @cached_property
    def runs(self) -> Runs:
        """The runs: their state, metrics and notes, and the trash."""
        from mlx_finetuning.studio.runs import Runs

        return Runs(self.workspace)

    @cached_property
    def records(self) -> Records:
        """A run's settings and metrics in the formats of other programs."""
        from mlx_finetuning.studio.records import Records

        return Records(self.workspace)

    @cached_property
    def evaluation(self) -> Evaluation:
        """Tuned against base model, and written models against the trained one."""
        from mlx_finetuning.studio.evaluation import Evaluation

        return Evaluation(self.workspace)

    @cached_property
    def exports(self) -> Exports:
        """Writing tuned models for other programs, and verifying them."""
        from mlx_finetuning.studio.exports import Exports

        return Exports(self.workspace)

    @cached_property
    def ollama(self) -> Ollama:
        """Models in Ollama, and bringing tuned ones there."""
        from mlx_finetuning.studio.ollama import Ollama

        return Ollama(self.workspace)

    @cached_property
    def chat(self) -> Chat:
        """Answers of tuned models, the servers they come from, and saved conversations."""
        from mlx_finetuning.studio.chat import Chat

        return Chat(self.workspace)

    @cached_property
    def marks(self) -> Marks:
        """Answers that people marked and put right, and the training that follows from it."""
        from mlx_finetuning.studio.marks import Marks

        return Marks(self.workspace)

    @cached_property
    def jobs(self) -> Jobs:
        """What works or waits now, and what became of earlier jobs."""
        from mlx_finetuning.studio.jobs import Jobs

        return Jobs(self.workspace)

    @cached_property
    def preferences(self) -> Preferences:
        """What a new run starts from."""
        from mlx_finetuning.studio.preferences import Preferences

        return Preferences(self.workspace)

    @cached_property
    def machine(self) -> Machine:
        """The machine's state, and the disk space that the workspace takes."""
        from mlx_finetuning.studio.machine import Machine

        return Machine(self.workspace)
