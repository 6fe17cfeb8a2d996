"""Pictures of labels and predictions, and the plots of a run.

Colouring, grids and PNG files need NumPy and Pillow only; matplotlib is imported by the functions that draw a figure,
and pyplot, with its global state, never.
"""

from mtl_keras.viz.colors import colorize_depth as colorize_depth
from mtl_keras.viz.colors import colorize_semseg as colorize_semseg
from mtl_keras.viz.colors import overlay as overlay
from mtl_keras.viz.grid import prediction_grid as prediction_grid
from mtl_keras.viz.panels import side_by_side as side_by_side
from mtl_keras.viz.plots import plot_confusion as plot_confusion
from mtl_keras.viz.plots import plot_history as plot_history
from mtl_keras.viz.png import encode_png as encode_png
from mtl_keras.viz.png import save_figure as save_figure
from mtl_keras.viz.png import save_png as save_png
from mtl_keras.viz.samples import plot_samples as plot_samples
