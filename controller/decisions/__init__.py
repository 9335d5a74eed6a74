"""The controller's decisions: pure functions of an observation and the time. No I/O, no clock, no randomness."""
