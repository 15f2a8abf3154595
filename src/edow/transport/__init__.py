"""Layer 2, bytes: how messages travel. `contract` says what every transport promises; each driver is a module or
folder.
"""
