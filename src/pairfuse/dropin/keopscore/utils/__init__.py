"""`keopscore.utils`: messages; what writes C++ there can be imported, and not used."""
