"""How generative models are judged. No one figure tells all: docstrings say what a metric does not see.

Everything here takes Tensors or arrays of any device, brings them to the host and computes there, in float64
but for the networks: a figure is the same wherever the samples were drawn. Points are rows, (N, D); images
are flattened, or given as a classifier's features."""

from .classifier import Classifier, classifier
from .coverage import Modes, PrecisionRecall, modes, precision_recall
from .kmeans import kmeans
from .parzen import Parzen, parzen_log_likelihood
from .quality import frechet_distance, inception_score
from .two_sample import TwoSampleTest, classifier_two_sample_test, median_bandwidth, mmd2, mmd_test
