"""The statuses of a run that the client has to know."""

FINAL = ("Completed", "Failed", "Canceled")
WAITING = ("NotStarted", "Preparing", "Queued", "CancelRequested")
