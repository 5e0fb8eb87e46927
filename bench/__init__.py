"""Measurements: `compare` (speed, beside Redis) and `scale` (memory, stalls, restart)."""
