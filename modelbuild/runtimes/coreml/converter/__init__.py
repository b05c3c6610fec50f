"""Makes packages: a module of PyTorch in, an .mlpackage out."""
