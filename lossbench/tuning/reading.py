"""From the `tune:` of a suite file to its searches, with what is wrong told by file and line."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from pydantic import ValidationError

from lossbench.cells import Component
from lossbench.errors import ParameterError, did_you_mean
from lossbench.plugin import Plugin
from lossbench.protocol import Protocol
from lossbench.registry import Registry
from lossbench.suite_schema import Problems
from lossbench.tune_schema import DimensionSpec, TuneSpec
from lossbench.tuning.sampling import PRIMES, settings
from lossbench.tuning.search import TUNABLE, Search, Tune
from lossbench.tuning.space import Dimension, Scalar
from lossbench.yamlfile import YamlPath

#: Drawn in the logarithm unless a suite says otherwise: what matters of them are factors.
_LOGARITHMIC = frozenset({"lr", "weight_decay"})


def read_tune(spec: TuneSpec, losses: Sequence[Component], registry: Registry, problems: Problems) -> Tune:
    """The checked `tune:`. Notes what is wrong in `problems`; then the result is not to be used."""
    search = []
    for name, dimension in spec.search.items():
        path = ("tune", "search", name)
        if name not in TUNABLE:
            hint = did_you_mean(name, TUNABLE) or f"for every loss can be searched: {', '.join(TUNABLE)}"
            what = "is no part of" if name not in Protocol.model_fields else "must be the same for all losses in"
            problems.add(path, f"tune.search: '{name}' {what} the protocol", hint, key=True)
        elif all(isinstance(value, int | float) and not isinstance(value, bool) for value in _ends(dimension)):
            whole = type(Protocol.model_fields[name].default) is int
            ends = [value if whole else float(value) for value in _ends(dimension)]
            search.append(_dimension(name, dimension, ends, problems, path))
        else:
            problems.add(path, f"tune.search: '{name}' takes numbers")
    names = [component.name for component in losses]
    own: dict[str, tuple[Dimension, ...]] = {}
    for loss, dimensions in spec.losses.items():
        path = ("tune", "losses", loss)
        if loss not in names:
            known = dict.fromkeys(names)
            hint = did_you_mean(loss, known) or f"its losses: {', '.join(known)}"
            problems.add(path, f"tune.losses: '{loss}' is no loss of this suite", hint, key=True)
            continue
        plugin = registry.get(loss)
        found = (
            _of_loss(plugin, name, dimension, spec.search, problems, (*path, name))
            for name, dimension in dimensions.items()
        )
        own[loss] = tuple(dimension for dimension in found if dimension is not None)
    return Tune(
        spec.trials, spec.holdout, spec.holdout_seed, spec.seed, tuple(spec.seeds), spec.sampler, tuple(search), own
    )


def _of_loss(
    plugin: Plugin, name: str, spec: DimensionSpec, shared: Iterable[str], problems: Problems, path: YamlPath
) -> Dimension | None:
    """A dimension of a loss's parameter, its ends or values in the parameter's type."""
    if name in shared:
        problems.add(path, f"'{name}' is searched for every loss already: its name must differ", key=True)
        return None
    param = plugin.params.get(name)
    try:
        if param is None:
            plugin.resolve({name: None})  # says what it has
            return None
        ends = [plugin.check(param, value) for value in _ends(spec)]
    except ParameterError as error:
        problems.add(path, error.message, error.hint, key=param is None)
        return None
    if spec.values is None and not all(type(end) in (int, float) for end in ends):
        problems.add(path, f"loss '{plugin.name}': '{name}' is no number", "give a list of values")
        return None
    if not all(isinstance(end, bool | int | float | str) for end in ends):
        problems.add(path, f"loss '{plugin.name}': '{name}' takes {param.type_name}: only plain values can be searched")
        return None
    return _dimension(name, spec, ends, problems, path)


def _ends(spec: DimensionSpec) -> list[Scalar]:
    """The values, or low and high; whole numbers as such."""
    if spec.values is not None:
        return list(spec.values)
    return [int(end) if end.is_integer() else end for end in (spec.low, spec.high) if end is not None]


def _dimension(name: str, spec: DimensionSpec, ends: Sequence[Scalar], problems: Problems, path: YamlPath) -> Dimension:
    if spec.values is not None:
        if len(set(ends)) < len(ends):
            problems.add(path, f"'{name}': a value is given twice")
        return Dimension(name, values=tuple(ends))
    low, high = (end for end in ends if isinstance(end, int | float))
    log = name in _LOGARITHMIC and low > 0 if spec.log is None else spec.log
    whole = type(low) is int and type(high) is int
    return Dimension(name, low, high, log=log, whole=whole)


def check_searches(searches: Sequence[Search], seeds: Sequence[int], problems: Problems) -> None:
    """What only shows when the searches are put together: settings that no protocol can have, and spaces that do not
    have as many settings as trials."""
    if not searches:
        return
    tune = searches[0].tune
    if both := sorted(set(tune.seeds) & set(seeds)):
        problems.add(
            ("tune", "seeds"),
            f"seed {both[0]} is a seed of the suite, too: a setting would be chosen by its luck with a reported run",
            "give trials seeds of their own; the default is [1000]",
        )
    if len(PRIMES) < max(len(search.space) for search in searches):
        problems.add(("tune",), f"more than {len(PRIMES)} dimensions")
        return
    for search in searches:
        if not _check_corners(search, problems):
            return
        own_size = 1.0
        for dimension in search.space:
            own_size *= dimension.size
        if own_size < 100 * tune.trials:
            tried = settings(
                search.space, search.own, trials=tune.trials, sampler="halton", seed=tune.seed, score=lambda _: None
            )
            if len(tried) < tune.trials:
                problems.add(
                    ("tune", "trials"),
                    f"{search.loss.label} has {len(tried)} settings, its own included, and so no {tune.trials} trials",
                    "lower trials, or widen the space: every loss gets as many",
                )


def _check_corners(search: Search, problems: Problems) -> bool:
    """Whether every corner of the searched part of the protocol is a protocol, for the cells as for the trials."""
    corners = [dimension.values or (dimension.low, dimension.high) for dimension in search.tune.search]
    for corner in itertools.islice(itertools.product(*corners), 4096):
        values = {d.name: value for d, value in zip(search.tune.search, corner, strict=True)}
        try:
            for protocol in (search.protocol, *{id(c.protocol): c.protocol for c in search.cells}.values()):
                Protocol.model_validate({**protocol.model_dump(), **values})
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else next(iter(values))
            where: YamlPath = ("tune", "search", name) if name in values else ("tune", "search")
            message = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"].lower()
            problems.add(where, f"{search.loss.label}: {name}: {message}")
            return False
    return True
