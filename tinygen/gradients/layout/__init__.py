"""A layered layout of directed graphs whose nodes lie in nested groups.

    K. Sugiyama, S. Tagawa and M. Toda, Methods for visual understanding of hierarchical system
    structures, 1981.

layers: each node gets a layer below those of all nodes that lead to it.
pieces: what a layer holds are nodes, strips and walls. A strip is the straight part of an edge that passes
    layers, a wall one side of a group. Both may pass several layers.
order: from left to right, so that few edges cross. A group stands between its walls, which pass all its
    layers: nothing else can come between, and nothing further has to know of groups.
columns: pieces that follow each other without a branch stand in a column, straight below each other, and
    columns are drawn to each other by their edges, and pushed apart where they come too near.
layered: all of this together, the heights of layers and the routes of edges.

Lengths are points (1/72 inch), x to the right and y downwards. The same graph gets the same layout.
"""

from .layered import Layout, Rectangle, lay_out
from .layers import Edge, Group
