"""The parts of `tools/lab.py`: what a lab is, what the machine hands down to it, its images and its containers."""
