"""What tools/faults.py breaks."""
