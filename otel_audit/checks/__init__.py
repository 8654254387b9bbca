"""Django system checks: what is wrong with the settings, and what to write instead."""
