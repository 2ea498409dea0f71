"""Tables, figures and the page: functions of a run on disk only."""
