"""Lava process classes, alone in their folder, as Lava may execute every file beside one."""
