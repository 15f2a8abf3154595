"""Schedules: workflows that are started at the times of a calendar, by whichever orchestrators are up."""

from edow.trigger.schedules.definition import Overlap, Schedule
from edow.trigger.schedules.desk import Schedules
from edow.trigger.schedules.runner import Runner
from edow.trigger.schedules.views import ScheduleView

__all__ = ["Overlap", "Runner", "Schedule", "ScheduleView", "Schedules"]
