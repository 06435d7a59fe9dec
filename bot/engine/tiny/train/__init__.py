"""Training of the toy model: pictures made by the project, one command, one seed."""
