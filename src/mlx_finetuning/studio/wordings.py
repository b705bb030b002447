"""Rows that are made of a dataset's own: other wordings of its questions, and questions to refuse."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_finetuning import models
from mlx_finetuning.errors import InvalidSettings, JobNotFound
from mlx_finetuning.jobs import jobs, runs
from mlx_finetuning.jobs.runs import LaterJob
from mlx_finetuning.language import _
from mlx_finetuning.progress import Progress, silent
from mlx_finetuning.studio import handle
from mlx_finetuning.studio.data import Data
from mlx_finetuning.studio.handle import JobHandle
from mlx_finetuning.utils.text_generator import ENGINES_JA, GeneratorChoice
from mlx_finetuning.workspace import Workspace

if TYPE_CHECKING:
    from mlx_finetuning.data_processor import DatasetSummary
    from mlx_finetuning.data_processor.wordings.made import (
        MadeRow,
        MadeRows,
        RefuseConfig,
        RewordConfig,
    )

KINDS = ("reword", "refuse")
MOST_PER_KIND, MOST_REFUSED = 10, 0.5


@dataclass(frozen=True)
class Wordings:
    """`studio.wordings`. Its imports of `data_processor`, which loads NumPy, stand in the methods."""

    workspace: Workspace

    def reword(self, settings: RewordConfig) -> JobHandle[MadeRows]:
        """Other wordings of a dataset's questions; nothing is written into the dataset.

        Raises DatasetNotFound, InvalidSettings, ModelError, AddressInvalid, DiskFull; following it,
        NothingToReword, OllamaError and RuntimeNotAnswering too.
        """
        from mlx_finetuning.data_processor.wordings.kinds import KINDS_JA

        problems = [
            _("kinds: 「{kind}」は選べません。").format(kind=kind)
            for kind in settings.kinds
            if kind not in KINDS_JA
        ]
        if not settings.kinds:
            problems.append(_("kinds: 言い換え方を1つは選んでください。"))
        if not 1 <= settings.per_kind <= MOST_PER_KIND:
            problems.append(
                _("per_kind: 1から{most}までにしてください。").format(most=MOST_PER_KIND)
            )
        if settings.check and not settings.generator.model:
            problems.append(_("check: モデルで確かめるには、モデルを指定してください。"))
        return self._start("reword", settings, problems)

    def refuse(self, settings: RefuseConfig) -> JobHandle[MadeRows]:
        """Questions that a dataset does not answer, with a refusal; as `reword`."""
        problems = []
        if not 0 < settings.share <= MOST_REFUSED:
            problems.append(
                _("share: 0より大きく、{most}までにしてください。").format(most=MOST_REFUSED)
            )
        return self._start("refuse", settings, problems)

    def _start(
        self, kind: str, settings: RewordConfig | RefuseConfig, problems: Sequence[str]
    ) -> JobHandle[MadeRows]:
        from mlx_finetuning.data_processor.wordings.made import MadeRows

        chosen = settings.generator
        problems = [*problems]
        if chosen.engine not in ENGINES_JA:
            problems.append(
                _("engine: 「{engine}」は選べません（{engines}）。").format(
                    engine=chosen.engine, engines=", ".join(ENGINES_JA)
                )
            )
        if chosen.address and not chosen.model:
            problems.append(_("model: 住所のサーバーで使うモデルの名前を指定してください。"))
        if chosen.engine == "address" and not chosen.address:
            problems.append(_("address: サーバーの住所を指定してください。"))
        if not settings.rules and not chosen.model:
            problems.append(_("rules: 規則を使わないときは、モデルを指定してください。"))
        if problems:
            raise InvalidSettings(problems=problems)
        Data(self.workspace).require(settings.dataset)
        details = asdict(replace(settings, generator=self._settled(chosen)))
        return JobHandle(handle.start(self.workspace, kind, details), MadeRows)

    def _settled(self, chosen: GeneratorChoice) -> GeneratorChoice:
        """The choice with a name that means the same from every folder. Raises ModelNotFound,
        AddressInvalid."""
        from mlx_finetuning.runtime import addresses

        if not chosen.model:
            return chosen
        engine = chosen.settled_engine
        if engine == "address":
            addresses.read(chosen.address)
        if engine == "mlx" and models.gguf_file(chosen.model) is None:
            models.resolve(chosen.model, self.workspace)
        if engine in ("mlx", "gguf") and Path(chosen.model).exists():
            return replace(chosen, model=str(Path(chosen.model).absolute()))
        return chosen

    def leaves_machine(self, chosen: GeneratorChoice) -> str:
        """In Japanese where questions and answers would be sent to; empty where they stay here.
        Raises AddressInvalid, OllamaHostInvalid."""
        from mlx_finetuning.ollama_integration import address
        from mlx_finetuning.runtime import addresses

        if not chosen.model or chosen.settled_engine not in ("ollama", "address"):
            return ""
        if chosen.settled_engine == "address":
            server = addresses.read(chosen.address)
            return (
                ""
                if server.is_local
                else _("データの質問と答えは、{host} に送られます。").format(host=server.host)
            )
        where = address.read(chosen.address or None)
        return (
            ""
            if where.is_local
            else _("データの質問と答えは、{place} に送られます。").format(place=where.place)
        )

    def resume(self, name: str) -> JobHandle[MadeRows]:
        """Let a job that was stopped go on behind what it has made; one that is done, or goes on,
        stays as it is. Raises JobNotFound, DiskFull."""
        from mlx_finetuning.data_processor.wordings.made import MadeRows

        job = next((job for job in self.jobs() if job.name == name), None)
        if job is None:
            raise JobNotFound(name=name)
        paths = self.workspace.job(name)
        if not job.status.is_living and job.status.state != "done":
            jobs.relaunch(paths)
        return JobHandle(paths, MadeRows)

    def jobs(self, dataset: str = "") -> builtins.list[LaterJob]:
        """What was started of this kind, of one dataset or all, the newest first."""
        found = [job for job in runs.later_jobs(self.workspace, "") if job.kind in KINDS]
        if not dataset:
            return found
        configs = {job.name: jobs.read_job(self.workspace.job(job.name)).config for job in found}
        return [job for job in found if configs[job.name].get("dataset") == dataset]

    def rows(self, name: str) -> MadeRows:
        """What a job that is done made. Raises RecordDamaged, NewerSchema."""
        from mlx_finetuning.data_processor.wordings.made import MadeRows

        return jobs.result(self.workspace.job(name), MadeRows)

    def add(
        self,
        made: MadeRows,
        accepted: Sequence[MadeRow],
        new_name: str,
        progress: Progress = silent,
    ) -> DatasetSummary:
        """Make the dataset again with these rows under a new name; an empty one takes its place, and
        the one before goes to the trash. Raises DataError, InvalidName, InvalidSettings, DiskFull."""
        from mlx_finetuning.data_processor.wordings import adding

        if not accepted:
            raise InvalidSettings(problems=[_("足す行が選ばれていません。")])
        data = Data(self.workspace)
        recorded = data.manifest(made.dataset)
        edits = list(recorded.edits)
        for source in dict.fromkeys(row.source for row in accepted):
            table = data.edited(made.dataset, source)
            adding.add(table, recorded.mapping, [row for row in accepted if row.source == source])
            edits += table.edits[len(recorded.edits) :]
        return data.edit(made.dataset, edits, new_name, progress=progress)
