"""`RunDetails`: a run in a notebook, live."""

from __future__ import annotations

import sys
import threading

from . import widget_html
from .errors import RunsteadError, UserError
from .run import Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

    from .submitted import SubmittedRun

SECONDS = 1.0


class RunDetails:
    """`RunDetails(run).show()`: progress, metrics and log of a run and its children, until it has ended.

    With ipywidgets it is a widget, in other notebooks HTML that is replaced as the run goes on, elsewhere text.
    """

    def __init__(self, run_instance: SubmittedRun) -> None:
        if not isinstance(run_instance, Run):
            raise UserError("run_instance: a run is needed, for example ws.get_run(12), got %r." % (run_instance,))
        self.run = run_instance
        self._stop = threading.Event()
        self._thread: Optional[threading.Thread] = None
        self.widget: Any = None
        """The ipywidgets object that `show` made, if it made one."""

    def show(self, render_lib: Any = None, widget_settings: Any = None) -> None:
        """Show it. Returns at once; what is shown goes on. `render_lib` and `widget_settings` are there for scripts of other systems."""
        self._stop.set()
        self._stop = threading.Event()
        seen = widget_html.look(self.run)
        update = self._widget(seen) or self._html(seen)
        if update is None:
            sys.stdout.write(widget_html.text(seen))
            sys.stdout.flush()
            return
        if not seen.ended:
            self._thread = threading.Thread(target=self._follow, args=(update, self._stop), daemon=True)
            self._thread.start()

    def get_widget_data(self) -> Any:
        """What is shown, as plain data."""
        return widget_html.look(self.run).data()

    def close(self) -> None:
        """Stop following the run; what is shown stays as it is."""
        self._stop.set()

    def _follow(self, update: Callable[[widget_html.View], None], stop: threading.Event) -> None:
        # An object of its own: the notebook goes on using the run meanwhile.
        run = type(self.run)(self.run.workspace, dict(self.run._data))
        while not stop.wait(SECONDS):
            try:
                seen = widget_html.look(run)
            except RunsteadError:
                continue  # the studio is away for a while; the next look may find it
            update(seen)
            if seen.ended:
                return

    def _widget(self, seen: widget_html.View) -> Optional[Callable[[widget_html.View], None]]:
        if not _in_kernel():
            return None
        try:
            import ipywidgets
            from IPython.display import display
        except ImportError:
            return None
        head, metrics, log = (ipywidgets.HTML() for _ in range(3))
        bar = ipywidgets.IntProgress(min=0, max=len(widget_html.PHASES), layout=ipywidgets.Layout(width="100%"))
        self.widget = ipywidgets.VBox([head, bar, metrics, log])

        def update(now: widget_html.View) -> None:
            head.value, metrics.value, log.value = now.head(), now.metrics_table(), now.log_block()
            bar.value = now.phase
            bar.bar_style = {"Completed": "success", "Failed": "danger", "Canceled": "warning"}.get(now.status, "info")

        update(seen)
        display(self.widget)
        return update

    def _html(self, seen: widget_html.View) -> Optional[Callable[[widget_html.View], None]]:
        if not _in_kernel():
            return None
        from IPython.display import HTML, display

        handle = display(HTML(seen.html()), display_id=True)
        return lambda now: handle.update(HTML(now.html()))

    def __repr__(self) -> str:
        return "RunDetails(%r)" % (self.run,)


def _in_kernel() -> bool:
    """Whether this is a notebook. Its shell is asked only where it is loaded already."""
    module: Any = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return getattr(shell, "kernel", None) is not None
