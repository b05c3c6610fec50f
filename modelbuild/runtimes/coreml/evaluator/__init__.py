"""Evaluates ML Programs: files in, values out, one operation after the other."""
