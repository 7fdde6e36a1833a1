"""Names that the configuration and the command line offer, without what is needed to check them."""

from typing import Literal, get_args

MethodName = Literal["nuts", "laplace", "svi", "map"]
GuideName = Literal["mean_field", "low_rank", "full_rank", "flow"]

METHODS: tuple[MethodName, ...] = get_args(MethodName)
GUIDES: tuple[GuideName, ...] = get_args(GuideName)
FIGURE_FORMATS = ("png", "pdf", "svg")
