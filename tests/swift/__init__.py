"""Tests that import Swift, in a process of their own: eventlet gives its locks to what uses real threads elsewhere."""
