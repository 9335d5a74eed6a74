"""What the controller decides: pure functions of what was observed and the time. No I/O, clock or chance."""
