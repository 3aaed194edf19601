"""The suite: a typed YAML file that says which cells to run. Read strictly, reported with file and line.

    datasets: [streets]
    backbones: [{name: fcn_timm, weights: none}]
    losses:
      - ce
      - {name: cdfl, omega: [0.1, 0.01, 0.001]}     # a list is a grid axis
    seeds: 3                                        # 0, 1, 2
    protocol: {iterations: 2000}

Needs no torch: names and parameters come from the registry's static scan.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lossbench.cells import Cell, Component, canonical_json
from lossbench.errors import ConfigError, ParameterError, did_you_mean
from lossbench.paths import expand, shipped
from lossbench.protocol import SET_BY_TUNING, Protocol
from lossbench.registry import Kind, Plugin, Registry, all_registries, scan_file
from lossbench.signatures import Param
from lossbench.suite_schema import ComponentSpec, OverrideSpec, Problems, Resources, SuiteSpec
from lossbench.terms import given_in_terms
from lossbench.track_schema import TrackSpec
from lossbench.tuning.reading import check_searches, read_tune
from lossbench.tuning.search import CellScore, Known, Search, Tune, known_cells
from lossbench.yamlfile import YamlDocument, YamlPath, read_yaml, scalar_hint

#: The key of a suite that lists each kind.
SECTIONS: Mapping[Kind, str] = {"dataset": "datasets", "backbone": "backbones", "loss": "losses"}
SUFFIXES = (".yaml", ".yml")


# --- the suite ---


@dataclass(frozen=True)
class Override:
    """Changes to the protocol or the resources of the cells whose name matches a glob."""

    match: str
    protocol: Mapping[str, Any] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)


@dataclass(frozen=True)
class Suite:
    """A validated suite. `registries` maps each kind to its Registry, the suite's plugin files included."""

    name: str
    description: str
    file: Path
    datasets: tuple[Component, ...]
    backbones: tuple[Component, ...]
    losses: tuple[Component, ...]
    seeds: tuple[int, ...]
    protocol: Protocol
    overrides: tuple[Override, ...]
    exclude: tuple[str, ...]
    resources: Resources
    plugin_files: tuple[Path, ...]
    registries: Mapping[Kind, Registry] = field(repr=False)
    tune: Tune | None = None
    track: tuple[TrackSpec, ...] = ()

    def cells(self) -> list[Cell]:
        """All cells: dataset, backbone, seed, loss, the last fastest, so that a run cut short leaves complete
        pairs. Excluded ones are left out, overrides applied in order, equal ids collapsed to the first."""
        return list(self._cells)

    def resources_of(self, cell: Cell) -> Resources:
        """The suite's resources with those of every matching override on top, in order."""
        resources = self.resources
        for override in self.overrides:
            if matches(cell.path, override.match):
                resources = resources.model_copy(update=override.resources.model_dump(exclude_unset=True))
        return resources

    def known(self, score: CellScore) -> Known:
        """The cells that are known given the records: without `tune:`, all."""
        return known_cells(self._cells, self.searches(), score)

    def searches(self) -> list[Search]:
        """The search of each dataset, backbone and loss that has cells; none without `tune:`. Its protocol is that of a
        cell with the first trial seed, overrides applied."""
        groups: dict[str, list[Cell]] = {}
        for cell in self._cells if self.tune else ():
            groups.setdefault(canonical_json([part.identity for part in cell.components.values()]), []).append(cell)
        return [self._search(members) for members in groups.values()]

    def _search(self, cells: Sequence[Cell]) -> Search:
        assert self.tune is not None
        first = replace(cells[0], seed=self.tune.seeds[0])
        applied = tuple(i for i, override in enumerate(self.overrides) if matches(first.path, override.match))
        protocol = self._overridden(applied)
        return Search(self.tune, first.dataset, first.backbone, first.loss, protocol, tuple(cells))

    @cached_property
    def _cells(self) -> tuple[Cell, ...]:
        protocols: dict[tuple[int, ...], Protocol] = {}
        unique: dict[str, Cell] = {}
        for cell in self._product():
            name = cell.path
            if any(matches(name, pattern) for pattern in self.exclude):
                continue
            applied = tuple(i for i, override in enumerate(self.overrides) if matches(name, override.match))
            if applied not in protocols:
                protocols[applied] = self._overridden(applied)
            cell = Cell(cell.dataset, cell.backbone, cell.loss, cell.seed, protocols[applied])
            unique.setdefault(cell.id, cell)
        return tuple(unique.values())

    def _product(self) -> Iterable[Cell]:
        """Every combination, with the suite's own protocol."""
        for dataset, backbone, seed, loss in itertools.product(self.datasets, self.backbones, self.seeds, self.losses):
            yield Cell(dataset, backbone, loss, seed, self.protocol)

    def _overridden(self, applied: tuple[int, ...]) -> Protocol:
        values = self.protocol.model_dump()
        for index in applied:
            values.update(self.overrides[index].protocol)
        return Protocol.model_validate(values)


def matches(name: str, pattern: str) -> bool:
    """Whether a cell's name matches a glob. Brackets are tried as a character class and as themselves, because
    labels contain them: `focal(alpha=[0.25,0.75])`."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, pattern.replace("[", "[[]"))


def known_suites() -> dict[str, Path]:
    """Suites by name: those in ./suites, then those that come with lossbench (a wheel's copies, or a checkout's)."""
    found: dict[str, Path] = {}
    for folder in (Path("suites"), shipped("suites")):
        for file in sorted(folder.glob("*.y*ml")) if folder.is_dir() else ():
            if file.suffix in SUFFIXES:
                found.setdefault(file.stem, file)
    return found


def find_suite(path_or_name: str | Path) -> Path:
    """An existing path, else a bare name among `known_suites`. Raises ConfigError with the nearest name."""
    path = expand(path_or_name)
    if path.is_file():
        return path
    known = known_suites()
    if path.is_dir():
        raise ConfigError(f"{path} is a folder, not a suite", hint="name a file in it, e.g. suites/quickstart.yaml")
    bare = path.parent == Path(".") and path.suffix not in SUFFIXES
    if bare and str(path) in known:
        return known[str(path)]
    siblings = [file.name for suffix in SUFFIXES for file in path.parent.glob(f"*{suffix}")]
    hint = None
    if not bare and (near := did_you_mean(path.name, siblings)):
        hint = near.replace("'", f"'{path.parent}/", 1) if path.parent != Path(".") else near
    hint = hint or did_you_mean(path.stem, known) or f"known suites: {', '.join(sorted(known)) or 'none'}"
    raise ConfigError(f"no suite '{path_or_name}'" if bare else f"{path_or_name}: no such file", hint=hint)


def load_suite(path_or_name: str | Path, *, plugins: Sequence[Path] = ()) -> Suite:
    """Read and validate a suite.

    Args:
        path_or_name: a file, or the name of a suite in ./suites or shipped with lossbench.
        plugins: further plugin files (`--plugin`), relative to the working directory.

    Raises:
        ConfigError: the first problems found, each as `file:line: what is wrong`, with a repair where one is near.
    """
    document = read_yaml(find_suite(path_or_name))
    if not isinstance(document.data, dict):
        raise ConfigError(
            f"{document.where()}: a suite is a mapping of keys, not a {type(document.data).__name__}",
            hint="it starts with lines such as 'datasets: [streets]'",
        )
    return _Reader(document, tuple(plugins)).suite()


# --- validation, with places ---


class _Reader:
    """Validates a document step by step and collects problems; a step starts when the one before found none."""

    def __init__(self, document: YamlDocument, plugins: tuple[Path, ...]) -> None:
        self.document = document
        self.plugins = plugins
        self.folder = document.file.absolute().parent
        self.problems = Problems(document)

    def suite(self) -> Suite:
        try:
            spec = SuiteSpec.model_validate(self.document.data)
        except ValidationError as error:
            self.problems.add_schema(error)
            self.problems.stop()
            raise
        files = self._plugin_files(spec.plugins)
        self.problems.stop()
        registries = all_registries(files)
        components = {
            kind: tuple(
                component
                for index, entry in enumerate(getattr(spec, section))
                for component in self._components(entry, registries[kind], (section, index))
            )
            for kind, section in SECTIONS.items()
        }
        self._check_free(("protocol",), spec.protocol.model_fields_set)
        for index, override in enumerate(spec.overrides):
            self._check_free(("overrides", index, "protocol"), override.protocol)
            self._check_override(index, override, spec.protocol)
        self.problems.stop()
        tune = (
            None if spec.tune is None else read_tune(spec.tune, components["loss"], registries["loss"], self.problems)
        )
        self.problems.stop()
        suite = Suite(
            name=spec.name or self.document.file.stem,
            description=spec.description,
            file=self.document.file,
            datasets=components["dataset"],
            backbones=components["backbone"],
            losses=components["loss"],
            seeds=tuple(spec.seeds),
            protocol=spec.protocol,
            overrides=tuple(Override(o.match, o.protocol, o.resources) for o in spec.overrides),
            exclude=tuple(spec.exclude),
            resources=spec.resources,
            plugin_files=files,
            registries=registries,
            tune=tune,
            track=tuple(spec.track),
        )
        self._check_cells(suite)
        self.problems.stop()
        check_searches(suite.searches(), suite.seeds, self.problems)
        self.problems.stop()
        return suite

    def _plugin_files(self, relative: Sequence[str]) -> tuple[Path, ...]:
        files = []
        for index, entry in enumerate(relative):
            file = self._absolute(Path(entry))
            if not file.is_file():
                self.problems.add(("plugins", index), f"plugin file not found: {file}")
            elif not scan_file(file, None):
                self.problems.add(
                    ("plugins", index),
                    f"{entry} registers no loss, backbone or dataset",
                    "decorate a class with @register_loss('name')",
                )
            else:
                files.append(file)
        files += [file.absolute() for file in self.plugins]
        return tuple(dict.fromkeys(file.resolve() for file in files))

    def _components(self, spec: ComponentSpec, registry: Registry, path: YamlPath) -> list[Component]:
        """The component, or one for each point of its grid."""
        try:
            plugin = registry.get(spec.name)
        except ConfigError as error:
            named = (*path, "name") if (*path, "name") in self.document.value_lines else path
            self.problems.add(named, error.message, error.hint)
            return []
        given = spec.model_extra or {}
        before = len(self.problems)
        axes = {name: self._axis(plugin, name, value, (*path, name)) for name, value in given.items()}
        if len(self.problems) > before:
            return []
        components = []
        for values in itertools.product(*axes.values()):
            point = dict(zip(axes, values, strict=True))
            try:
                params = plugin.resolve(point)
            except ParameterError as error:  # a required one is missing
                self.problems.add(path, error.message, error.hint)
                return []
            terms = [g for name in plugin.term_parameters & point.keys() for g in given_in_terms(name, point[name])]
            components.append(Component(spec.name, self._resolve_paths(params, axes), (*axes, *terms)))
        return components

    def _axis(self, plugin: Plugin, name: str, value: Any, path: YamlPath) -> list[Any]:
        """The values a parameter takes: a list is a grid unless the parameter itself takes lists."""
        param = plugin.params.get(name)
        if param is None:
            try:
                plugin.resolve({name: value})
            except ParameterError as error:
                self.problems.add(path, error.message, error.hint, key=True)
            return []
        if not _is_grid(param, value):
            self._check_value(plugin, param, value, path)
            return [value]
        if not value:
            self.problems.add(path, f"{plugin.kind} '{plugin.name}': the grid of '{name}' is empty")
        for index, point in enumerate(value):
            self._check_value(plugin, param, point, (*path, index))
        return list(value)

    def _check_value(self, plugin: Plugin, param: Param, value: Any, path: YamlPath) -> None:
        try:
            checked = plugin.check(param, value)
        except ParameterError as error:
            self.problems.add((*path, *error.path), error.message, error.hint or scalar_hint(value, param.type_name))
            return
        # A dataset says itself what it misses and how to get it; any other file must be there, and is hashed.
        for place, file in _files(checked, path) if plugin.kind != "dataset" else ():
            if not self._absolute(file).exists():
                what = f"{plugin.kind} '{plugin.name}': {param.name}"
                self.problems.add(place, f"{what}: no such file: {self._absolute(file)}")

    def _resolve_paths(self, params: Mapping[str, Any], given: Iterable[str]) -> dict[str, Any]:
        return {name: self._with_paths(value) if name in set(given) else value for name, value in params.items()}

    def _with_paths(self, value: Any) -> Any:
        if isinstance(value, Path):
            return self._absolute(value)
        if isinstance(value, list):
            return [self._with_paths(item) for item in value]
        if isinstance(value, dict):
            return {key: self._with_paths(item) for key, item in value.items()}
        return value

    def _absolute(self, path: Path) -> Path:
        return Path(os.path.normpath(self.folder / expand(path)))

    def _check_free(self, path: YamlPath, keys: Iterable[str]) -> None:
        for key in sorted(set(keys) & set(SET_BY_TUNING)):
            self.problems.add((*path, key), f"'{key}' is set by lossbench", "write a `tune:` in the suite", key=True)

    def _check_override(self, index: int, override: OverrideSpec, base: Protocol) -> None:
        """Each field by itself; how the fields go together is checked per cell."""
        try:
            Protocol.model_validate({**base.model_dump(), **override.protocol})
        except ValidationError as error:
            self.problems.add_schema(error, ("overrides", index, "protocol"), fields_only=True)

    def _check_cells(self, suite: Suite) -> None:
        names = list(dict.fromkeys(cell.path for cell in suite._product()))
        patterns: list[tuple[YamlPath, str]] = [
            *((("overrides", i, "match"), override.match) for i, override in enumerate(suite.overrides)),
            *((("exclude", i), pattern) for i, pattern in enumerate(suite.exclude)),
        ]
        for path, pattern in patterns:
            if not any(matches(name, pattern) for name in names):
                wider = f"*{pattern.strip('*')}*"
                if any(matches(name, wider) for name in names):
                    hint = f"did you mean '{wider}'?"
                else:
                    hint = did_you_mean(pattern, names) or f"a cell's name looks like '{names[0]}'"
                self.problems.add(path, f"'{pattern}' matches no cell", hint)
        self.problems.stop()
        try:
            cells = suite.cells()
        except ValidationError as error:
            self.problems.add_schema(error, ("overrides",))
            return
        if not cells:
            self.problems.add(("exclude",), "every cell is excluded")


def _files(value: Any, path: YamlPath) -> Iterator[tuple[YamlPath, Path]]:
    """The paths in a value, at any depth, each with its place in the document."""
    if isinstance(value, Path):
        yield path, value
    elif isinstance(value, list | dict):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _files(item, (*path, key))


def _is_grid(param: Param, value: Any) -> bool:
    if not isinstance(value, list):
        return False
    if not param.takes_list:
        return True
    # The parameter takes lists: only a list of lists that is itself no value of it is a grid.
    if not any(isinstance(item, list) for item in value):
        return False
    try:
        param.coerce(value)
    except ValueError:
        return True
    return False
