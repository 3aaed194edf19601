"""`lossbench cancel`: take the cells of a suite back from a cluster."""

from __future__ import annotations

from lossbench.cli.common import DEFAULT_RESULTS, PluginOption, ResultsOption, SuiteArgument, open_store
from lossbench.errors import SetupError


def cancel(suite: SuiteArgument, results: ResultsOption = DEFAULT_RESULTS, plugin: PluginOption = None) -> None:
    """Take what is queued on Slurm out of the queue; what runs there writes a checkpoint and leaves.

    Cells that run on this machine are stopped by Ctrl-C where they were started.

    \b
    Example:
      lossbench cancel quickstart
    """
    from lossbench.execution.slurm_queue import RUNNING, alive, pass_on, states
    from lossbench.execution.submission import Ask, submissions
    from lossbench.history import StoreHistory
    from lossbench.suite import load_suite

    loaded, store = load_suite(suite, plugins=plugin or ()), open_store(results)
    cells = loaded.known(StoreHistory(store, loaded.registries).miou).cells if loaded.tune else loaded.cells()
    found = submissions(store.root.absolute(), [cell.id for cell in cells])
    known = states(item.job for item in found.values())
    if known is None:
        raise SetupError("Slurm does not answer: squeue is missing or fails", hint="try it where `squeue` works")
    found = {cell: item for cell, item in found.items() if alive(known[item.job])}
    unwritten: dict[str, Ask] = {}
    reason = ""
    for cell, item in found.items():
        try:
            item.ask(cell, "leave")
        except OSError as error:
            unwritten[cell], reason = "leave", error.strerror or str(error)
    pass_on(set(found.values()), known, unwritten)
    # A task is told through Slurm if all of its cells go; one of which some stay looks for a note in the folder.
    deaf = [cell for cell in unwritten if found[cell].all_asked(unwritten) is None]
    if deaf:
        raise SetupError(
            f"{len(deaf)} of {len(found)} cells cannot be told: {found[deaf[0]].folder} cannot be written ({reason})",
            hint="other cells of their tasks go on; cancel them all, or as a user who may write there",
        )
    running = sum(known[item.job] in RUNNING for item in found.values())
    left = f" ({running} of them running: they write a checkpoint and leave)" if running else ""
    print(f"{len(found)} cells cancelled{left}")
