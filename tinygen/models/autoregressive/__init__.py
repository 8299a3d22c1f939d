"""Models of one element after another."""

from .gated_pixelcnn import GatedPixelCNN
from .made import MADE
from .multiscale_pixelcnn import MultiscalePixelCNN
from .pixelcnn import PixelCNN
from .pixelcnn_pp import PixelCNNPlusPlus
