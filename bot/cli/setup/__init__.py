"""`python -m bot setup`: from a fresh checkout to the first picture, asked one by one."""
