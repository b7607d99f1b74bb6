"""Review of the masks of a case: accepted slices, and the case marked as done."""

from __future__ import annotations

from dataclasses import replace

from monai_tpseg.annotate.session.checks import check_flag
from monai_tpseg.annotate.session.history import SliceState
from monai_tpseg.annotate.session.masks import Change
from monai_tpseg.annotate.session.prompted_session import PromptedSession
from monai_tpseg.annotate.session.read_only_session import synchronized
from monai_tpseg.annotate.session.session_error import SessionError
from monai_tpseg.words import count

__all__ = ["ReviewedSession"]


class ReviewedSession(PromptedSession):
    """Session with review; arguments as for `ReadOnlySession`."""

    @synchronized
    def accept(self, index: int = 0) -> Change:
        """Accept the mask of slice `index`, which may be empty.

        Raises:
            SessionError: there is no such slice.
        """
        index = self._index(index)
        state = self._history.at(index)
        return self._take(self._history.step(index, SliceState(state.clicks, state.result, "accepted")))

    @synchronized
    def accept_all(self) -> list[Change]:
        """Accept all proposed masks in one step.

        Raises:
            SessionError: no slice is proposed.
        """
        steps = [
            self._history.step(index, replace(state, status="accepted"))
            for index, state in sorted(self._history.slices.items())
            if state.status == "proposed"
        ]
        if not steps:
            raise SessionError("No slice is proposed; there is nothing to accept.")
        return self._take_together(steps, [None] * len(steps))

    @synchronized
    def set_done(self, done: bool = True) -> Change:
        """Mark the whole case as done or not done; a later change resets this.

        Raises:
            SessionError: there is no task, or masks are only proposed.
        """
        if check_flag(done, "done"):
            self.check_done()
        return self._take(self._history.step(setup=replace(self._history.setup, done=done)))

    @synchronized
    def check_done(self) -> None:
        """Check that the case can be marked as done.

        Raises:
            SessionError: see `set_done`.
        """
        if self._history.setup.task is None:
            raise SessionError("A finished case needs a task; choose one first.")
        proposed = sum(state.status == "proposed" for state in self._history.slices.values())
        if proposed:
            raise SessionError(
                f"{count(proposed, 'mask')} of the case {'is' if proposed == 1 else 'are'} only proposed; look at them "
                "and accept them, then mark the case as done."
            )
