"""Modules that moved in this version: their old names are imported for one version more.

Whoever imports one is told where it is now. Names at the top, such as ``fedcircuit.discover``, have
not moved.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

ROOT = "fedcircuit."


class OldNames(MetaPathFinder, Loader):
    """Finds modules under the names that they had; asked only for what nothing else has found."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec for an old name, else None."""
        return ModuleSpec(fullname, self) if fullname.removeprefix(ROOT) in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """Let every name of the old module be the one that the new module has."""
        new = ROOT + MOVED[module.__name__.removeprefix(ROOT)]
        warnings.warn(
            f"{module.__name__} is now {new}; the old name goes with the next version",
            DeprecationWarning,
            stacklevel=2,
        )
        here = import_module(new)
        module.__doc__ = here.__doc__
        module.__dict__["__getattr__"] = lambda wanted: getattr(here, wanted)
        module.__dict__["__dir__"] = lambda: dir(here)


def keep_old_names() -> None:
    """Make the old names importable; once a process."""
    if not any(isinstance(finder, OldNames) for finder in sys.meta_path):
        sys.meta_path.append(OldNames())


def old_names(room: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a room that stands where a module stood: the names that this had."""
    return partial(_moved_name, room)


def _moved_name(room: str, name: str) -> Any:
    """A name of the module that stood where a room is now; AttributeError where it had none."""
    now = ROOT + BECAME_ROOMS[room.removeprefix(ROOT)]
    if name.startswith("__") or not hasattr(module := import_module(now), name):
        raise AttributeError(f"module {room!r} has no attribute {name!r}")
    warnings.warn(
        f"{room}.{name} is now in {now}; the old name goes with the next version",
        DeprecationWarning,
        stacklevel=2,
    )
    return getattr(module, name)


BECAME_ROOMS = {  # modules that are rooms now, and where their content is
    "analysis.inertia": "analysis.inertia.layer_inertia",
    "app.config": "app.config.study",
    "app.engines": "app.engines.running",
    "app.study": "app.study.parts",
    "circuits.checks": "circuits.checks.subject",
    "circuits.masking": "circuits.masking.masking",
    "circuits.overlap": "circuits.overlap.jaccard",
    "circuits.sites": "circuits.sites.finding",
    "learning.data": "learning.data.datasets",
    "learning.partitions": "learning.partitions.partition",
    "learning.training": "learning.training.local_training",
    "observers.circuits": "observers.circuits.observer",
    "records.rounds": "records.rounds.round_files",
    "report.figures": "report.figures.writing",
    "report.page": "report.page.page",
    "report.tables": "report.tables.counts",
    "strategies.message_api": "strategies.message_api.strategy",
    "strategies.preflight": "strategies.preflight.checks",
    "strategies.replies": "strategies.replies.reply",
}
MOVED = {  # below ``fedcircuit``
    "analysis.information.binned": "analysis.estimators.binned",
    "analysis.information.critic_training": "analysis.estimators.critic_training",
    "analysis.information.critics": "analysis.estimators.critics",
    "analysis.information.estimate": "analysis.estimators.estimate",
    "analysis.information.kolchinsky": "analysis.estimators.kolchinsky",
    "analysis.information.ksg": "analysis.estimators.ksg",
    "analysis.information.layer": "analysis.estimators.layer",
    "analysis.information.probe": "analysis.estimators.linear_probe",
    "analysis.information.settings": "analysis.estimators.settings",
    "analysis.information_plane": "analysis.information.plane",
    "analysis.information_pool": "analysis.information.pool",
    "analysis.movement": "analysis.inertia.movement",
    "analysis.pool_activations": "analysis.information.activations",
    "analysis.research_questions": "analysis.questions.answers",
    "app.cli": "app.commands.cli",
    "app.completion": "app.commands.completion",
    "app.config_data": "app.config.data",
    "app.config_files": "app.config.files",
    "app.config_trackers": "app.config.trackers",
    "app.config_training": "app.config.training",
    "app.data_examples": "app.config.data_examples",
    "app.demo": "app.commands.demo",
    "app.doctor": "app.commands.doctor",
    "app.engine": "app.engines.engine",
    "app.expected": "app.commands.cli",
    "app.federation": "app.study.federation",
    "app.grid": "app.engines.grid",
    "app.look": "app.study.looking",
    "app.look_command": "app.commands.look_command",
    "app.partition_table": "app.commands.partition_table",
    "app.process_state": "app.engines.process_state",
    "app.progress": "app.commands.progress",
    "app.ray_engine": "app.engines.ray_engine",
    "app.simulation": "app.engines.simulation",
    "app.stopping": "app.commands.stopping",
    "app.strategy_options": "app.config.strategy_options",
    "app.study_data": "app.study.data",
    "app.study_observers": "app.study.observers",
    "app.trackers": "app.study.trackers",
    "app.voice": "app.commands.verbosity",
    "app.yaml_text": "app.config.yaml_text",
    "circuits.ablation": "circuits.masking.ablation",
    "circuits.alignment": "circuits.overlap.alignment",
    "circuits.attention": "circuits.sites.attention",
    "circuits.calls": "circuits.models.module_calls",
    "circuits.chance": "circuits.overlap.chance",
    "circuits.checking": "circuits.checks.model_checks",
    "circuits.class_overlap": "circuits.overlap.class_overlap",
    "circuits.clock": "circuits.round.timing",
    "circuits.compact": "circuits.masking.compact",
    "circuits.comparison": "circuits.round.client_comparison",
    "circuits.connectivity": "circuits.paths.connectivity",
    "circuits.controls": "circuits.checks.controls",
    "circuits.cutting": "circuits.masking.cut_models",
    "circuits.dependence": "circuits.sites.independence",
    "circuits.discover": "circuits.discovery.one_model",
    "circuits.discovery.attribution": "circuits.methods.attribution",
    "circuits.discovery.contrast": "circuits.search.contrast",
    "circuits.discovery.effects": "circuits.search.effects",
    "circuits.discovery.fedmi": "circuits.methods.fedmi",
    "circuits.discovery.gates": "circuits.methods.gates",
    "circuits.discovery.gradients": "circuits.search.gradients",
    "circuits.discovery.integrated": "circuits.methods.integrated",
    "circuits.discovery.iterative": "circuits.methods.iterative",
    "circuits.discovery.leave_one_out": "circuits.methods.leave_one_out",
    "circuits.discovery.magnitude": "circuits.methods.magnitude",
    "circuits.discovery.mean_activation": "circuits.methods.mean_activation",
    "circuits.discovery.named": "circuits.methods.named",
    "circuits.discovery.protocol": "circuits.search.protocol",
    "circuits.discovery.random_scores": "circuits.methods.random_scores",
    "circuits.discovery.ranks": "circuits.search.top_units",
    "circuits.discovery.scored": "circuits.search.scored_method",
    "circuits.discovery.size_search": "circuits.search.size_search",
    "circuits.discovery.sizes": "circuits.search.size_rules",
    "circuits.discovery.stacked_search": "circuits.discovery.many_models",
    "circuits.edges.checks": "circuits.edges.edge_checks",
    "circuits.edges.circuit": "circuits.edges.edge_circuit",
    "circuits.edges.discover": "circuits.edges.edge_discovery",
    "circuits.edges.layers": "circuits.edges.edge_layers",
    "circuits.edges.overlap": "circuits.edges.edge_overlap",
    "circuits.edges.paths": "circuits.edges.edge_paths",
    "circuits.edges.reduced": "circuits.edges.reduced_model",
    "circuits.edges.scores": "circuits.edges.scoring",
    "circuits.exchange": "circuits.round.sent_circuits",
    "circuits.false_discovery": "circuits.overlap.false_discoveries",
    "circuits.fitting": "circuits.probes.fitted_probe",
    "circuits.gating": "circuits.sites.gating",
    "circuits.hooks": "circuits.sites.hooks",
    "circuits.labelled": "circuits.probes.labelled_samples",
    "circuits.laws": "circuits.overlap.distributions",
    "circuits.layouts": "circuits.models.memory_format",
    "circuits.markup": "html",
    "circuits.measures": "circuits.checks.measures",
    "circuits.memory": "circuits.masking.memory",
    "circuits.minimality": "circuits.checks.minimality",
    "circuits.model_circuits": "circuits.round.model_circuits",
    "circuits.modes": "circuits.models.evaluation_mode",
    "circuits.naming": "circuits.models.site_names",
    "circuits.necessity": "circuits.checks.necessity",
    "circuits.planted.carried": "circuits.planted.client_plans",
    "circuits.preservation": "circuits.round.round_circuits",
    "circuits.probe": "circuits.probes.probe",
    "circuits.ranked_overlap": "circuits.overlap.ranked_overlap",
    "circuits.readable": "circuits.models.unsupported",
    "circuits.removal": "circuits.checks.knockout",
    "circuits.sampling": "circuits.masking.contrast_samples",
    "circuits.settings": "circuits.round.settings",
    "circuits.soft_overlap": "circuits.overlap.weighted_iou",
    "circuits.stability": "circuits.round.stability",
    "circuits.stacked": "circuits.masking.stacked_models",
    "circuits.stacked_masks": "circuits.masking.stacked_masks",
    "circuits.structural_functions": "circuits.paths.structural_functions",
    "circuits.structure": "circuits.paths.structure",
    "circuits.together": "circuits.round.batched_models",
    "circuits.unit_weights": "circuits.models.unit_weights",
    "circuits.validity": "circuits.checks.validity",
    "circuits.verdict": "circuits.verdicts.judging",
    "learning.batch_statistics": "learning.training.batch_statistics",
    "learning.batches": "learning.training.batches",
    "learning.binary_sphere": "learning.data.binary_sphere",
    "learning.evaluation": "learning.training.evaluation",
    "learning.flwr_partitions": "learning.partitions.flwr_partitioners",
    "learning.layers": "learning.networks.layers",
    "learning.models": "learning.networks.models",
    "learning.naming": "learning.networks.exchanged_names",
    "learning.natural": "learning.partitions.natural_clients",
    "learning.objectives": "learning.training.objectives",
    "learning.optimizers": "learning.training.optimizer_state",
    "learning.personal": "learning.partitions.personal_tests",
    "learning.progress": "learning.training.progress",
    "learning.raw_data": "learning.sources.raw_data",
    "learning.source": "learning.sources.data_source",
    "learning.sparsity": "learning.networks.sparsity",
    "learning.steps": "learning.training.optimizer_steps",
    "learning.torchvision_data": "learning.data.torchvision_files",
    "observers.ceiling": "observers.circuits.noise_ceiling",
    "observers.circuit_tables": "observers.circuits.circuit_tables",
    "observers.mlflow_tracker": "observers.trackers.mlflow_tracker",
    "observers.overlap_tables": "observers.circuits.overlap_tables",
    "observers.tensorboard_tracker": "observers.trackers.tensorboard_tracker",
    "observers.tracking": "observers.trackers.tracking",
    "observers.unprobed": "observers.circuits.without_probe",
    "observers.wandb_tracker": "observers.trackers.wandb_tracker",
    "records.beside": "records.runs.side_files",
    "records.codec": "records.files.array_files",
    "records.disk": "records.files.disk",
    "records.folder": "records.runs.folder",
    "records.frames": "records.runs.frames",
    "records.guard": "records.files.write_errors",
    "records.integrity": "records.files.digests",
    "records.layer_names": "records.runs.layer_names",
    "records.line_frames": "records.runs.line_frames",
    "records.lines": "records.rounds.round_lines",
    "records.lock": "records.files.lock",
    "records.looks": "records.runs.looks",
    "records.manifest": "records.rounds.manifest",
    "records.reading": "records.files.read_errors",
    "records.round_record": "records.rounds.round_record",
    "records.run": "records.runs.run",
    "records.store": "records.runs.store",
    "records.stored_circuits": "records.runs.stored_circuits",
    "records.updates": "records.rounds.client_weights",
    "records.values": "records.rounds.plain_values",
    "records.verification": "records.runs.verification",
    "report.circuit_bits": "report.tables.packed_circuits",
    "report.compare": "report.page.compare",
    "report.figure_grids": "report.figures.grids",
    "report.figure_inertia": "report.figures.inertia",
    "report.figure_information": "report.figures.information",
    "report.figure_overlaps": "report.figures.overlaps",
    "report.figure_plots": "report.figures.plots",
    "report.glance": "report.notebook.glance",
    "report.inertia": "report.tables.inertia",
    "report.inertia_section": "report.page.inertia_section",
    "report.information": "report.tables.information",
    "report.information_section": "report.page.information_section",
    "report.loaded": "report.notebook.loaded_run",
    "report.overlaps": "report.tables.overlaps",
    "report.plain": "report.tables.plain",
    "report.questions": "report.tables.questions",
    "report.sections": "report.page.sections",
    "report.verdict_text": "report.tables.verdict_text",
    "report.words": "report.tables.words",
    "strategies.acceptance": "strategies.recording.acceptance",
    "strategies.agreement": "strategies.replies.agreement",
    "strategies.assembly": "strategies.recording.assembly",
    "strategies.bounds": "strategies.replies.limits",
    "strategies.copies": "strategies.recording.wrapping",
    "strategies.downloads": "strategies.message_api.sent_weights",
    "strategies.failures": "strategies.replies.failures",
    "strategies.grids": "strategies.nodes.grids",
    "strategies.legacy": "strategies.legacy_api.strategy",
    "strategies.legacy_clients": "strategies.legacy_api.clients",
    "strategies.legacy_resuming": "strategies.legacy_api.resuming",
    "strategies.message_replies": "strategies.message_api.replies",
    "strategies.model_fit": "strategies.preflight.model_fit",
    "strategies.names": "strategies.preflight.numbered_weights",
    "strategies.numbers": "strategies.preflight.round_numbers",
    "strategies.observation": "strategies.recording.observation",
    "strategies.options": "strategies.recording.options",
    "strategies.recordable": "strategies.recording.partial_rounds",
    "strategies.recorder": "strategies.recording.recorder",
    "strategies.records": "strategies.recording.recorded_weights",
    "strategies.resuming": "strategies.recording.resuming",
    "strategies.roster": "strategies.nodes.identities",
    "strategies.sampling": "strategies.nodes.sampling",
    "strategies.state": "strategies.recording.memory_of_strategies",
    "strategies.waiting": "strategies.nodes.waiting",
}
