"""Picture files: headers, grids, and the parameters in them."""
