"""Exports that go on where the last one ended, and the merge that makes them one."""
