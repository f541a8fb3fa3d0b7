"""Second views of a batch: `Views` around any model, and what makes a view.

A view is another batch made of the first, row by row: under attack (`Ascent`), or with
a share of it hidden (`Hidden`). The model runs over it in the same step, and what it
computes stands among its intermediates, for losses to read.
"""

from models.views.ascent import Ascent
from models.views.hidden import Hidden
from models.views.view import View
from models.views.wrapper import Views, view_of, with_views

__all__ = [
    "Ascent",
    "Hidden",
    "View",
    "Views",
    "view_of",
    "with_views",
]
