"""What a SuperNode's process says last when its connection broke for good.

A module of its own: the supervisor looks for the words and must not import Flower for them.
"""

LOST = "this SuperNode lost the coordinator for good, and its process ends"
