"""How far a run is: a bar in a terminal, now and then a line elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.fit import Epoch

__all__ = ["shown"]

LINES = 10


@contextmanager
def shown(console: Console, *, epochs: int) -> Iterator[Callable[[Epoch], None]]:
    """While open, what is yielded shows each epoch that it is given: as a bar where `console` is a terminal, else as at
    most about ten lines in all."""
    if not console.is_terminal:
        every = max(1, epochs // LINES)
        yield lambda epoch: console.print(_said(epoch)) if epoch.number % every == 0 or epoch.number == 1 else None
        return
    columns = (TextColumn("epoch"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("", total=epochs)
        yield lambda epoch: bar.update(task, completed=epoch.number, description=_losses(epoch))


def _said(epoch: Epoch) -> str:
    return f"epoch {epoch.number}: {_losses(epoch)}"


def _losses(epoch: Epoch) -> str:
    return f"training loss {epoch.training_loss:.5g}, validation loss {epoch.validation_loss:.5g}"
