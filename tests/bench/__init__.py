"""Measurements on rehearsal machines, which make targets run and pytest does not."""
