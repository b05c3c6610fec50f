"""The kernels of ML Program operations, by family; `KERNELS` has them all by the operation's name."""

from modelbuild.runtimes.coreml.evaluator.kernels import KERNELS
from modelbuild.runtimes.coreml.evaluator.ops import activation as activation
from modelbuild.runtimes.coreml.evaluator.ops import attention as attention
from modelbuild.runtimes.coreml.evaluator.ops import classification as classification
from modelbuild.runtimes.coreml.evaluator.ops import convolution as convolution
from modelbuild.runtimes.coreml.evaluator.ops import crop as crop
from modelbuild.runtimes.coreml.evaluator.ops import decompression as decompression
from modelbuild.runtimes.coreml.evaluator.ops import detection as detection
from modelbuild.runtimes.coreml.evaluator.ops import elementwise as elementwise
from modelbuild.runtimes.coreml.evaluator.ops import gathering as gathering
from modelbuild.runtimes.coreml.evaluator.ops import linear as linear
from modelbuild.runtimes.coreml.evaluator.ops import lists as lists
from modelbuild.runtimes.coreml.evaluator.ops import lstm as lstm
from modelbuild.runtimes.coreml.evaluator.ops import normalisation as normalisation
from modelbuild.runtimes.coreml.evaluator.ops import ordering as ordering
from modelbuild.runtimes.coreml.evaluator.ops import pooling as pooling
from modelbuild.runtimes.coreml.evaluator.ops import quantisation as quantisation
from modelbuild.runtimes.coreml.evaluator.ops import recurrent as recurrent
from modelbuild.runtimes.coreml.evaluator.ops import reduction as reduction
from modelbuild.runtimes.coreml.evaluator.ops import resize as resize
from modelbuild.runtimes.coreml.evaluator.ops import scattering as scattering
from modelbuild.runtimes.coreml.evaluator.ops import shaping as shaping
from modelbuild.runtimes.coreml.evaluator.ops import slicing as slicing
from modelbuild.runtimes.coreml.evaluator.ops import states as states
from modelbuild.runtimes.coreml.evaluator.ops import tensor as tensor

__all__ = ["KERNELS"]
