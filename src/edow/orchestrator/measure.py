"""What a commit tells whoever measures. Once for each batch, after everything that anybody waits for."""

from __future__ import annotations

from edow.kpi.meter import Meter
from edow.model import topics
from edow.model.execution import ENDED
from edow.orchestrator.draft import Draft
from edow.orchestrator.inputs import Batch


def measure(meter: Meter, draft: Draft, batch: Batch, commit_us: int) -> None:
    """Count what this draft has committed, exactly once."""
    now = draft.now
    if draft.attempts:
        meter.attempts(draft.attempts, now)
    if draft.started or draft.ended:
        rows = [update.execution for update in draft.updates]
        meter.executions(draft.started, [row for row in rows if row.status in ENDED])
    for letter in draft.dead_letters:
        if letter.execution:
            meter.dead_letter(letter.workflow, letter.task)
        else:
            meter.figures.poison += 1
    if draft.messages:
        meter.sent(draft.messages)
    if batch.deliveries:
        meter.heard_at = now
        size = sum([len(delivery.body) for delivery in batch.deliveries])
        meter.received(f"{topics.RESULTS}*", len(batch.deliveries), size)
    meter.figures.commits.add([commit_us])
    meter.figures.duplicates += draft.duplicates
    meter.progressed(now)
