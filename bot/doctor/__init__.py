"""`python -m bot doctor`: what is wrong with an installation, and the next step."""
